// SPDX-License-Identifier: Apache-2.0
// Dark or light: the system's, unless the reader has chosen.

import { $ } from "./dom.js";

const KEY = "explorer-theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function show() {
  const theme = ["dark", "light"].includes(chosen()) ? chosen() : system.matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", theme === "dark" ? "Light colours" : "Dark colours");
}

export function startTheme() {
  $("theme").addEventListener("click", () => {
    try {
      localStorage.setItem(KEY, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    } catch {
      // Without storage the choice does not last.
    }
    show();
  });
  system.addEventListener("change", show);
  window.addEventListener("storage", show);
  show();
}
