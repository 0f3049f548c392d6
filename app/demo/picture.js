// A picture to start from: chosen, dropped anywhere on the page, or pasted. It is scaled down here, so that little is
// sent, and its value is a data URI, or null.
const MAX_SIDE = 512
const MAX_LENGTH = 48000
const field = element.querySelector('input')
const clear = element.querySelector('.clear')
const image = element.querySelector('img')
const says = element.querySelector('.hint')

function show() {
  const uri = props.value || ''
  image.hidden = clear.hidden = !uri
  if (uri) image.src = uri
  // The slider beside it is of use with a picture alone.
  document.querySelector('#options')?.classList.toggle('has-picture', Boolean(uri))
}

function take(uri) {
  props.value = uri
  show()
}

function encoded(picture) {
  const canvas = document.createElement('canvas')
  let side = Math.min(MAX_SIDE, Math.max(picture.width, picture.height))
  for (;;) {
    const scale = side / Math.max(picture.width, picture.height)
    canvas.width = Math.max(1, Math.round(picture.width * scale))
    canvas.height = Math.max(1, Math.round(picture.height * scale))
    const context = canvas.getContext('2d')
    context.fillStyle = 'white'
    context.fillRect(0, 0, canvas.width, canvas.height)
    context.imageSmoothingQuality = 'high'
    context.drawImage(picture, 0, 0, canvas.width, canvas.height)
    const uri = canvas.toDataURL('image/jpeg', 0.92)
    if (uri.length <= MAX_LENGTH) return uri
    side = Math.round(side * 0.8)
  }
}

async function read(file) {
  says.textContent = ''
  try {
    const picture = await createImageBitmap(file)
    take(encoded(picture))
    picture.close()
  } catch {
    says.textContent = 'The browser cannot read this picture; try a PNG or JPEG.'
  }
}

const pictures = transfer => Array.from(transfer?.files || []).filter(file => file.type.startsWith('image/'))

element.querySelector('.choose').addEventListener('click', () => field.click())
field.addEventListener('change', () => {
  if (field.files.length) read(field.files[0])
  field.value = ''
})
clear.addEventListener('click', () => take(null))

document.addEventListener('dragover', event => {
  if (!Array.from(event.dataTransfer?.types || []).includes('Files')) return
  event.preventDefault()
  document.body.classList.add('dropping')
})
for (const name of ['dragleave', 'drop']) {
  document.addEventListener(name, event => {
    if (name === 'drop' || !event.relatedTarget) document.body.classList.remove('dropping')
  })
}
document.addEventListener('drop', event => {
  const [file] = pictures(event.dataTransfer)
  if (event.dataTransfer?.files.length) event.preventDefault()
  if (file) read(file)
})
document.addEventListener('paste', event => {
  const [file] = pictures(event.clipboardData)
  if (!file) return
  event.preventDefault()
  read(file)
})

watch('value', show)
show()
