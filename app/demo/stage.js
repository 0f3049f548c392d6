// The stage: shows the data that stage.py sends (props.value), always as text, never as HTML.
// {tiles: [data URI or null], token, words, seed, alt, drawing, progress, says, error, notes, and of a pack: pack, labels}
// Only this script knows which candidate is chosen; the download links change with it at once.
const tiles = element.querySelector('.tiles')
const bar = element.querySelector('.progress')
const says = element.querySelector('.says')
const error = element.querySelector('.error')
const notes = element.querySelector('.notes')
const take = element.querySelector('.take')
const recipe = take.querySelector('input')
const kinds = { png: 'png', transparent: 'transparent.png', zip: 'zip', 'pack-zip': 'pack.zip' }
let chosen = 0
let token

function tile(index) {
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'tile'
  button.setAttribute('role', 'option')
  button.append(document.createElement('img'))
  button.addEventListener('click', () => choose(index))
  button.addEventListener('keydown', event => {
    const columns = getComputedStyle(tiles).gridTemplateColumns.split(' ').length
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key]
    const to = index + by
    if (by === undefined || to < 0 || to >= tiles.children.length) return
    event.preventDefault()
    choose(to)
    tiles.children[to].focus()
  })
  return button
}

function mark() {
  const state = props.value || {}
  Array.from(tiles.children).forEach((button, index) => {
    button.setAttribute('aria-selected', index === chosen)
    button.tabIndex = index === chosen ? 0 : -1
  })
  // Relative links, because --share serves the page at another address.
  for (const [id, kind] of Object.entries(kinds)) {
    const href = `take/${state.token}/${chosen}.${kind}?recipe=${Number(recipe.checked)}`
    take.querySelector(`#${id}`).setAttribute('href', href)
  }
  take.querySelector('#pack-zip').hidden = !state.pack
  take.hidden = Boolean(state.drawing) || !state.token
}

function words(state) {
  if (state.labels) return state.labels[chosen]
  return state.words === undefined ? '' : `${state.words} \u00b7 seed ${state.seed + chosen}`
}

function choose(index) {
  const state = props.value
  if (state.drawing || !state.tiles[index]) return
  chosen = index
  mark()
  says.textContent = words(state)
}

recipe.addEventListener('change', mark)

// Browsers let pages write pictures to the clipboard over HTTPS and on this machine alone.
const copy = take.querySelector('#copy')
copy.hidden = !(window.ClipboardItem && navigator.clipboard?.write)
copy.addEventListener('click', async () => {
  const picture = fetch(take.querySelector('#transparent').href).then(answer => {
    if (!answer.ok) throw new Error(answer.statusText)
    return answer.blob()
  })
  try {
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': picture })])
    says.textContent = 'Copied, without its background.'
  } catch {
    says.textContent = 'The browser did not let the page copy the picture.'
  }
})

function show() {
  const state = props.value || {}
  const pictures = state.tiles || []
  while (tiles.children.length > pictures.length) tiles.lastChild.remove()
  while (tiles.children.length < pictures.length) tiles.append(tile(tiles.children.length))
  if (state.token !== token || state.drawing) chosen = 0
  token = state.token
  tiles.dataset.count = pictures.length
  pictures.forEach((source, index) => {
    const button = tiles.children[index]
    const image = button.firstChild
    button.classList.toggle('empty', !source)
    button.classList.toggle('drawing', Boolean(state.drawing))
    button.setAttribute('aria-label', `Candidate ${index + 1}`)
    image.alt = source ? state.alt || '' : ''
    image.hidden = !source
    if (source && image.getAttribute('src') !== source) image.src = source
  })
  mark()
  bar.hidden = !state.drawing
  bar.firstElementChild.style.width = `${100 * (state.progress || 0)}%`
  bar.setAttribute('aria-valuenow', Math.round(100 * (state.progress || 0)))
  says.textContent = state.says ?? words(state)
  error.textContent = state.error || ''
  error.hidden = !state.error
  notes.replaceChildren(...(state.notes || []).map(note => {
    const item = document.createElement('li')
    item.textContent = note
    return item
  }))
  notes.hidden = !(state.notes || []).length
  element.classList.toggle('is-drawing', Boolean(state.drawing))
}

watch('value', show)
show()
