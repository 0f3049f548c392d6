// Examples, and two emojis to combine: both write into the prompt, as typing would.
const field = () => document.querySelector('#prompt textarea, #prompt input')

function write(text) {
  const prompt = field()
  prompt.value = text
  prompt.dispatchEvent(new Event('input', { bubbles: true }))
  prompt.focus({ preventScroll: true })
}

element.querySelectorAll('.example').forEach(chip => chip.addEventListener('click', () => write(chip.textContent)))

element.querySelectorAll('.emoji').forEach(chip => chip.addEventListener('click', () => {
  const said = field().value.split('+').map(part => part.trim())
  const one = said.length === 1 && Array.from(element.querySelectorAll('.emoji')).some(other => other.textContent === said[0])
  write(one ? `${said[0]} + ${chip.textContent}` : chip.textContent)
}))
