// Where the page is, in the fragment of its URL: "#/runs?status=failed", "#/runs/ID". No path of the server is needed.
import { useEffect, useState } from "./preact.js";

export function read(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

export function href(parts, query = {}) {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const text = given.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const go = (...where) => {
  location.hash = href(...where);
};

// Change the query in place, without a step in the history: for every letter typed into a filter.
export function refine(parts, query) {
  history.replaceState(null, "", href(parts, query));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function useLocation() {
  const [found, set] = useState(read);
  useEffect(() => {
    const changed = () => set(read());
    addEventListener("hashchange", changed);
    // It may have changed between the first drawing and this.
    changed();
    return () => removeEventListener("hashchange", changed);
  }, []);
  return found;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
