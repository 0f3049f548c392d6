// The session's drawings, the newest first: [{id, prompt, picture}]. A click shows one again; the round button draws it
// again with another seed.
const list = element.querySelector('ol')

function button(kind, label, id) {
  const control = document.createElement('button')
  control.type = 'button'
  control.className = kind
  control.title = label
  control.setAttribute('aria-label', label)
  return control
}

// The drawings stay on the server, and this browser keeps their unguessable names for when the page is loaded again.
function keep(drawn) {
  try {
    if (drawn.length) localStorage.setItem('genmoji', drawn.map(({ id }) => id).join(' '))
  } catch {
    // A browser that keeps nothing.
  }
}

function show() {
  const drawn = props.value || []
  keep(drawn)
  element.querySelector('.history').hidden = !drawn.length
  list.replaceChildren(...drawn.map(({ id, prompt, picture }) => {
    const item = document.createElement('li')
    const open = button('open', `Show again: ${prompt}`)
    const image = document.createElement('img')
    image.src = picture
    image.alt = prompt
    open.append(image)
    open.addEventListener('click', () => trigger('open', { id }))
    const remix = button('remix', `Remix: ${prompt}`)
    remix.textContent = '\u21bb'
    remix.addEventListener('click', () => trigger('remix', { id }))
    item.append(open, remix)
    return item
  }))
}

watch('value', show)
show()
