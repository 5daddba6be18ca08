// Copying to the clipboard; browsers offer it to pages over https and on localhost alone, so there is a second way.

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
  }
  if (!button) return;
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = isCopied ? "Copied" : "Select and copy it by hand";
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = String(setTimeout(() => { button.textContent = label; }, 1500));
}
