// Keys press the buttons that carry them. Everything else is htmx.
"use strict";

const hidden = "selfstudy-guess-hidden";
const showGuess = () => document.body.classList.toggle("no-guess", localStorage.getItem(hidden) === "1");

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, textarea");
  if (field) {
    if (event.key === "Escape") field.blur();
    if (event.key === "Enter" && field.dataset.enter) {
      event.preventDefault(); // else the first button of the form would be pressed
      document.querySelector(`${field.dataset.enter} button`)?.click();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("#begun, #new")?.focus();
  } else if (event.key === "g") {
    localStorage.setItem(hidden, localStorage.getItem(hidden) === "1" ? "0" : "1");
    showGuess();
  } else {
    const buttons = [...document.querySelectorAll("button[data-keys]")];
    buttons.find((button) => button.dataset.keys.split(" ").includes(event.key))?.click();
  }
});

function say(problem) {
  const place = document.getElementById("problem");
  if (!place) return;
  place.textContent = problem;
  place.hidden = !problem;
}

// htmx puts the cursor back into a field of the same name; the next item is for the keys.
document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.requestConfig?.verb === "post") document.activeElement?.blur();
});

document.body.addEventListener("htmx:sendError", () =>
  say("The server does not answer. What you answered last may not be saved: answer again when it is back."));
document.body.addEventListener("htmx:timeout", () =>
  say("The server takes long. Answer again: an answer that was saved is not counted twice."));
document.body.addEventListener("htmx:responseError", (event) => say(event.detail.xhr.responseText));
document.body.addEventListener("htmx:afterOnLoad", (event) => {
  if (event.detail.successful !== false && event.detail.xhr.status < 400) say("");
});
showGuess();
