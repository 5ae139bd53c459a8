// What is fetched when it is first needed: views, and the style sheets of libraries.
import { html, useEffect, useState } from "./preact.js";
import { send } from "./api.js";

// A component that is loaded when it is first shown.
export function lazy(load) {
  let loaded;
  return (props) => {
    const [View, set] = useState(() => loaded);
    useEffect(() => {
      if (loaded) return;
      load().then((found) => {
        loaded = found;
        set(() => found);
      }, loadPage);
    }, []);
    return View ? html`<${View} ...${props} />` : html`<p class="soft" role="status">Loading…</p>`;
  };
}

// A browser does not fetch a module again that it could not fetch: the page is loaded anew, once the server answers.
async function loadPage() {
  try {
    await send("health", { quiet: true });
    location.reload();
  } catch {
    setTimeout(loadPage, 1000);
  }
}

// Adds a style sheet once; the content security policy wants the nonce of the page.
export function style(href) {
  if (document.querySelector(`link[href="${href}"]`)) return;
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.nonce = document.querySelector("script[nonce]").nonce;
  link.href = href;
  document.head.prepend(link);
}
