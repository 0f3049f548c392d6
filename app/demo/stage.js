// The stage: shows what the server says (props.value, plain data) without ever making HTML of a text.
// {tiles: [data URI or null], chosen, drawing, progress, says, error, notes}
const tiles = element.querySelector('.tiles')
const bar = element.querySelector('.progress')
const says = element.querySelector('.says')
const error = element.querySelector('.error')
const notes = element.querySelector('.notes')

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

function mark(chosen) {
  Array.from(tiles.children).forEach((button, index) => {
    button.setAttribute('aria-selected', index === chosen)
    button.tabIndex = index === chosen ? 0 : -1
  })
}

function choose(index) {
  const state = props.value
  if (state.drawing || !state.tiles[index]) return
  mark(index)
  trigger('choose', { index })
}

function show() {
  const state = props.value || {}
  const pictures = state.tiles || []
  while (tiles.children.length > pictures.length) tiles.lastChild.remove()
  while (tiles.children.length < pictures.length) tiles.append(tile(tiles.children.length))
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
  mark(state.chosen ?? 0)
  bar.hidden = !state.drawing
  bar.firstElementChild.style.width = `${100 * (state.progress || 0)}%`
  bar.setAttribute('aria-valuenow', Math.round(100 * (state.progress || 0)))
  says.textContent = state.says || ''
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
