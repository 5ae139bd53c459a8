// The frame around the views: sign-in, navigation, and the notice that the server is away.
import { html, render, useEffect, useState } from "./preact.js";
import { ApiError, events, get, signIn, signOut, token } from "./api.js";
import { lazy } from "./lazy.js";
import { go, href, read, useLocation } from "./router.js";
import { Runs } from "./runs.js";

const Run = lazy(() => import("./run.js").then((module) => module.Run));
const NewRun = lazy(() => import("./new.js").then((module) => module.NewRun));
const Service = lazy(() => import("./service.js").then((module) => module.Service));

const VIEWS = {
  runs: ["Runs", ({ parts, info }) => (parts[1] ? html`<${Run} key=${parts[1]} parts=${parts} info=${info} />` : html`<${Runs} />`)],
  new: ["New run", NewRun],
  service: ["Service", Service],
};

function SignIn({ done, refused }) {
  const [error, setError] = useState(refused);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const given = new FormData(event.target).get("token").trim();
    setBusy(true);
    signIn(given);
    try {
      done(await get("info", { quiet: true }));
    } catch (problem) {
      signOut();
      setError(problem.status === 401 ? "The server does not know this token." : problem.message);
      setBusy(false);
    }
  };
  return html`<main class="sign-in">
    <h1>light-run</h1>
    <form onSubmit=${submit}>
      <label for="token">Token</label>
      <input id="token" name="token" type="password" autocomplete="off" required autofocus spellcheck=${false}
        aria-describedby="token-help" aria-invalid=${Boolean(error)} />
      <p id="token-help">What the server was started with as LIGHT_RUN_TOKEN, or one of light-run token. It is kept for this tab only.</p>
      ${error && html`<p class="error" role="alert">${error}</p>`}
      <button class="primary" disabled=${busy}>Sign in</button>
    </form>
  </main>`;
}

function Frame({ info, leave }) {
  const { parts } = useLocation();
  const [away, setAway] = useState(false);
  useEffect(() => {
    const changed = (event) => setAway(!event.detail);
    events.addEventListener("connection", changed);
    return () => events.removeEventListener("connection", changed);
  }, []);
  useEffect(() => {
    if (!VIEWS[read().parts[0]]) go(["runs"]);
  }, [parts[0]]);
  const [title, View] = VIEWS[parts[0]] ?? VIEWS.runs;
  useEffect(() => {
    document.title = `${title} · light-run`;
  }, [title, parts[1]]);
  return html`<header>
      <a class="brand" href=${href(["runs"])}>light-run</a>
      <nav aria-label="Views">
        ${Object.entries(VIEWS).map(([name, [label]]) => html`<a key=${name} href=${href([name])}
          aria-current=${parts[0] === name ? "page" : undefined}>${label}</a>`)}
        <a href="docs">API</a>
      </nav>
      ${info.token.required && html`<span class="who">${info.token.name ?? ""}</span>
        <button class="quiet" onClick=${leave}>Sign out</button>`}
    </header>
    ${away && html`<p class="away" role="alert">The server does not answer. What you see may be old; trying again…</p>`}
    <main><${View} parts=${parts} info=${info} /></main>`;
}

function Console() {
  const [state, set] = useState({ info: undefined, asked: false });
  const start = async () => {
    try {
      set({ info: await get("info", { quiet: true }), asked: false });
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) set({ asked: true });
      else {
        set({ error: error.message });
        setTimeout(start, 2000);
      }
    }
  };
  useEffect(() => {
    start();
    const out = () => {
      const refused = token() ? "The server does not accept this token any more." : "";
      signOut();
      set({ asked: true, refused });
    };
    events.addEventListener("signedout", out);
    return () => events.removeEventListener("signedout", out);
  }, []);
  const leave = () => {
    signOut();
    set({ asked: true });
  };
  if (state.info) return html`<${Frame} info=${state.info} leave=${leave} />`;
  if (state.asked) return html`<${SignIn} refused=${state.refused} done=${(info) => set({ info })} />`;
  if (state.error) return html`<main class="sign-in"><h1>light-run</h1><p class="error" role="alert">${state.error}</p></main>`;
  return null;
}

const root = document.getElementById("console");
root.replaceChildren();
render(html`<${Console} />`, root);
dispatchEvent(new Event("page-drawn"));
