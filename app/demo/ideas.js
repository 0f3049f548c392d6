// Examples, and emojis to combine in twos: a click writes into the prompt, as typing would.
const field = () => document.querySelector('#prompt textarea, #prompt input')

function write(text) {
  const prompt = field()
  prompt.value = text
  prompt.dispatchEvent(new Event('input', { bubbles: true }))
  prompt.focus({ preventScroll: true })
}

element.querySelectorAll('.example').forEach(chip => chip.addEventListener('click', () => write(chip.textContent)))

element.querySelectorAll('.emoji').forEach(chip => chip.addEventListener('click', () => {
  const parts = field().value.split('+').map(part => part.trim())
  const chips = Array.from(element.querySelectorAll('.emoji'))
  const isOneEmoji = parts.length === 1 && chips.some(other => other.textContent === parts[0])
  write(isOneEmoji ? `${parts[0]} + ${chip.textContent}` : chip.textContent)
}))
