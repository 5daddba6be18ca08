"use strict";
// Shows the newest QR code of an instance, and asks for the next one every few seconds until the connection is open.
document.addEventListener("DOMContentLoaded", () => {
  const card = document.querySelector("[data-qr-code]");
  if (!card) return;
  const EVERY = 3000;
  const part = (name) => card.querySelector(`[data-part="${name}"]`);
  const say = (text) => {
    if (part("text").textContent !== text) part("text").textContent = text;
  };
  let seq = "";
  let proof = "";

  const hide = () => {
    seq = "";
    part("picture").hidden = part("pairing").hidden = true;
    part("picture").removeAttribute("src");
    part("pairing").querySelector("strong").textContent = "";
  };

  const show = (code) => {
    if (String(code.seq) !== seq) {
      seq = String(code.seq);
      part("picture").hidden = !code.picture;
      if (code.picture) part("picture").src = code.picture;
      else part("picture").removeAttribute("src");
      part("pairing").hidden = !code.pairingCode;
      part("pairing").querySelector("strong").textContent = code.pairingCode;
      card.dataset.message = code.message;
    }
    card.classList.toggle("stale", !code.isFresh);
    if (card.dataset.message) say(`The engine says: ${card.dataset.message}`);
    else if (part("picture").hidden && part("pairing").hidden) say("The engine has published a code that cannot be shown.");
    else if (code.isFresh) say("Scan it on the phone: WhatsApp, Linked devices, Link a device. A new one replaces it by itself.");
    else say("This code is probably no longer valid. Waiting for the next one.");
  };

  const setState = (state) => {
    const word = document.querySelector("[data-state]");
    if (word.classList.contains(state)) return;
    word.className = `state ${state}`;
    word.textContent = state === "close" ? "closed" : state;
    word.parentElement.replaceChildren(word, " now");
  };

  const ask = async () => {
    const answer = await fetch(`${card.dataset.qrCode}?${new URLSearchParams({ seq, proof })}`, { redirect: "error" });
    if (!answer.ok) throw new Error(answer.status);
    const { state, isWaiting, code, proof: next } = await answer.json();
    proof = next;
    setState(state);
    if (!isWaiting) {
      hide();
      say(state === "open" ? "The phone is paired: the connection is open." : "The instance was logged out.");
      return false;
    }
    if (code) show(code);
    else {
      hide();
      say("Waiting for a code of the engine.");
    }
    return true;
  };

  const repeat = async () => {
    let goesOn = true;
    if (!document.hidden) {
      try {
        goesOn = await ask();
      } catch {
        hide(); // what is shown might be used by whoever comes by
        say("The server does not answer, or you are no longer logged in. Reload the page.");
      }
    }
    if (goesOn) setTimeout(repeat, EVERY);
  };
  repeat();
});
