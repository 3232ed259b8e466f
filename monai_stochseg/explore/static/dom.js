// SPDX-License-Identifier: Apache-2.0
// Makes elements and puts text into them, never HTML.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, attributes = {}, ...children) => make(document.createElement(tag), attributes, children);

export const s = (tag, attributes = {}, ...children) => make(document.createElementNS(SVG, tag), attributes, children);

// A select's options, rebuilt only when they have changed, so that an open list stays open.
export function options(select, entries, value) {
  const key = JSON.stringify(entries);
  if (select.dataset.entries !== key) {
    select.dataset.entries = key;
    select.replaceChildren(...entries.map(([id, name]) => h("option", { value: id }, name)));
  }
  select.value = value ?? "";
}

// A field's value, left alone while the reader types in it.
export function fill(input, value) {
  if (input !== document.activeElement || input.type === "range") input.value = value;
}

export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size > 0 && size < 0.1) return (size < 0.00005 ? "0" : value.toPrecision(2)).replace("-", "−");
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return value.toFixed(digits).replace("-", "−");
}

export const percent = (share) => `${Math.round(100 * share)} %`;

export const unitName = (unit) => (unit === "mm2" ? "mm²" : unit);
