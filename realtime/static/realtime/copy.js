// Copying to the clipboard; browsers offer it to pages over https and on localhost alone, so there is a second way.

/** Copies a text; the button says for a moment whether it was. */
export async function copy(text, button) {
  let isCopied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    isCopied = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = isCopied ? "Copied" : "Select and copy it by hand";
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = String(setTimeout(() => { button.textContent = label; }, 1500));
}

/** Has each button with `data-copy` copy the text, or a field's value, of the element with that id; those that come later, too. */
export function setUpCopyButtons() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    copy(source.value ?? source.textContent, button);
  });
}
