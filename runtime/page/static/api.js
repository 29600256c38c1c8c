// All calls of the page, as /api/openapi.json describes them, and the stream of events.

export const me = { name: null, role: null, first: false };
export const mayChange = () => me.role === "operator";

/** Gives the answer's JSON. Throws an Error with the box's own words; `status` and `answer` are on it. */
export async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body instanceof Blob) {
    options.body = body;
    options.headers["Content-Type"] = "application/octet-stream";
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw Object.assign(new Error("The box does not answer; it may be starting."), { status: 0 });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    if (response.status === 401 && me.name !== null) window.dispatchEvent(new Event("logged-out"));
    throw Object.assign(new Error(answer.error || `status ${response.status}`), { status: response.status, answer });
  }
  return answer;
}
export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, body);

// --- events -------------------------------------------------------------------------------------------------------

const listeners = new Set();
let source = null;

/** Be told of each event as {event, row}; gives the function that ends it. */
export function onEvent(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Listen from now on; the browser itself asks again for what it missed (Last-Event-ID). */
export function listen(onState) {
  stopListening();
  source = new EventSource("/api/events");
  source.addEventListener("box", (message) => {
    const told = JSON.parse(message.data);
    for (const listener of [...listeners]) listener(told);
  });
  source.onopen = () => onState(true);
  source.onerror = () => onState(false);
}

export function stopListening() {
  if (source) source.close();
  source = null;
}
