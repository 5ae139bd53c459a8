// Requests to the server that this page came from. The token is kept for this tab and sent as a header; there is no cookie.

const KEY = "light-run.token";

// "signedout" when a token is asked for, "connection" when the server goes away or is back.
export const events = new EventTarget();

let connected = true;

export const token = () => sessionStorage.getItem(KEY) ?? "";
export const signIn = (value) => sessionStorage.setItem(KEY, value);
export const signOut = () => sessionStorage.removeItem(KEY);

// An error response; `details` are its faults, `status` is 0 where there was no response at all.
export class ApiError extends Error {
  constructor(status, body) {
    const faults = body.details?.map((each) => each.message).join("; ");
    super(body.message || faults || (body.error ?? `HTTP status ${status}`).replaceAll("_", " "));
    this.status = status;
    this.word = body.error ?? "";
    this.details = body.details ?? [];
  }
}

function connection(now) {
  if (now === connected) return;
  connected = now;
  events.dispatchEvent(new CustomEvent("connection", { detail: now }));
}

// Pauses in ms before a request that got no response is sent again. Browsers give up what they are fetching when the
// machine's network changes, as it does on a machine where containers start.
const PAUSES = [200, 600];

async function fetched(path, options, repeatable) {
  for (const pause of repeatable ? PAUSES : []) {
    try {
      return await fetch(path, options);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  return fetch(path, options);
}

// The Response to a request; throws ApiError for every status that is no success.
export async function send(path, { method = "GET", body, headers = {}, signal, quiet = false } = {}) {
  const sent = { ...headers };
  if (token()) sent.Authorization = `Bearer ${token()}`;
  const repeatable = method === "GET" || "Idempotency-Key" in headers;
  let response;
  try {
    response = await fetched(path, { method, body, headers: sent, signal, cache: "no-store", credentials: "omit" }, repeatable);
  } catch (error) {
    if (signal?.aborted) throw error;
    connection(false);
    throw new ApiError(0, { message: "The server does not answer." });
  }
  connection(true);
  if (response.ok) return response;
  const found = await response.json().catch(() => ({}));
  if (response.status === 401 && !quiet) events.dispatchEvent(new Event("signedout"));
  if (response.status === 429) {
    found.message = `Too many wrong tokens came from this address. Wait ${response.headers.get("Retry-After")} s.`;
  }
  throw new ApiError(response.status, found);
}

export const get = async (path, options) => (await send(path, options)).json();

export const post = (path, body) =>
  send(path, body === undefined ? { method: "POST" } : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

// The path of an artifact, whatever its name is.
export const artifactPath = (id, path) => `runs/${encodeURIComponent(id)}/artifacts/${path.split("/").map(encodeURIComponent).join("/")}`;

// Save what a path answers as a file. The token is a header, which a plain link cannot send.
export async function download(path, name) {
  const url = URL.createObjectURL(await (await send(path)).blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
