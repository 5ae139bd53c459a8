// Hooks: a value that is asked for again and again while the page is looked at, and the time.
import { useEffect, useState } from "./preact.js";

// The result of `load(signal)`, and its error; again every `every(value)` ms until that is 0, and when `keys` change.
export function useLive(load, every, keys) {
  const [state, set] = useState({ value: undefined, error: undefined, keys: undefined });
  const [round, again] = useState(0);
  const name = JSON.stringify(keys);
  useEffect(() => {
    const controller = new AbortController();
    let timer;
    const step = async () => {
      if (document.hidden) {
        timer = setTimeout(step, 500);
        return;
      }
      let pause = 2000;
      try {
        const value = await load(controller.signal);
        if (controller.signal.aborted) return;
        set({ value, error: undefined, name });
        pause = every(value);
      } catch (error) {
        if (controller.signal.aborted) return;
        // What is known stays while the server is away.
        set((known) => ({ value: known.name === name ? known.value : undefined, error, name }));
        if (error.status && error.status < 500) return;
      }
      if (pause) timer = setTimeout(step, pause);
    };
    step();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [name, round]);
  const current = state.name === name;
  return {
    value: current ? state.value : undefined,
    error: current ? state.error : undefined,
    reload: () => again((count) => count + 1),
  };
}

// Draws the component again every `ms` while `on`, for times that pass.
export function useNow(on, ms = 1000) {
  const [now, set] = useState(Date.now);
  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => set(Date.now()), ms);
    return () => clearInterval(timer);
  }, [on, ms]);
  return on ? Math.max(now, Date.now()) : now;
}
