// SPDX-License-Identifier: Apache-2.0
// The server's requests; an older one of the same kind is dropped when a newer one begins.

async function get(path, signal) {
  let response;
  try {
    response = await fetch(path, { signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  if (response.ok) return response;
  const text = await response.json().then((body) => body.error, () => null);
  throw new Error(typeof text === "string" ? text : `The server answers ${response.status}.`);
}

const id = encodeURIComponent;

export const urls = {
  layer: (number, layer, hidden) => `/api/cases/${number}/export/${id(layer)}${hidden ? "?hidden=1" : ""}`,
  edit: (number, settings, hidden) => `/api/cases/${number}/edit.file?settings=${id(JSON.stringify(settings))}${hidden ? "&hidden=1" : ""}`,
};

export const getCases = async (signal) => (await get("/api/cases", signal)).json();

export const getCase = async (number, signal) => (await get(`/api/cases/${number}`, signal)).json();

export const getImage = async (number, place, signal) =>
  (await get(`/api/cases/${number}/image/${place}.nii`, signal)).arrayBuffer();

export const getMap = async (number, layer, signal) =>
  (await get(`/api/cases/${number}/map/${id(layer)}.nii`, signal)).arrayBuffer();

export const getLabels = async (number, layer, signal) =>
  new Uint8Array(await (await get(`/api/cases/${number}/map/${id(layer)}.raw`, signal)).arrayBuffer());

export async function getEdit(number, settings, signal) {
  const response = await get(`/api/cases/${number}/edit.raw?settings=${id(JSON.stringify(settings))}`, signal);
  const volumes = JSON.parse(response.headers.get("X-Volumes") ?? "null");
  return { img: new Uint8Array(await response.arrayBuffer()), volumes };
}

// Holds one request: asked again for the same it gives the same promise, asked for another it drops the first.
export class Slot {
  get(key, load) {
    if (this.key === key) return this.promise;
    this.drop();
    const controller = new AbortController();
    const promise = load(controller.signal);
    Object.assign(this, { key, controller, promise });
    promise.catch(() => this.promise === promise && (this.key = null));
    return promise;
  }

  drop() {
    this.controller?.abort();
    this.key = null;
  }
}

// Keeps the newest layers up to a limit of bytes.
export class Cache {
  constructor(limit) {
    Object.assign(this, { limit, size: 0, entries: new Map() });
  }

  get(key) {
    const entry = this.entries.get(key);
    if (entry) {
      this.entries.delete(key);
      this.entries.set(key, entry);
    }
    return entry;
  }

  put(key, entry) {
    if (this.entries.has(key)) return;
    this.entries.set(key, entry);
    this.size += entry.img.byteLength;
    for (const [old, { img }] of this.entries) {
      if (this.size <= this.limit || old === key) break;
      this.entries.delete(old);
      this.size -= img.byteLength;
    }
  }

  clear() {
    this.entries.clear();
    this.size = 0;
  }
}
