/** Colours come from the style sheet, so that light, dark and print have one source; canvases ask here. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Colours } from "./draw.js";

export const FONT = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';

export function colours(): Colours {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const known: Readonly<Record<string, string>> = {
    guest: of("guest"),
    kvm_handle_guest_abort: of("fault"),
    invalidate_range: of("invalidate"),
  };
  const [exit, phase, lock] = [of("exit"), of("phase"), of("lock")];
  return {
    ink: of("ink"),
    quiet: of("quiet"),
    line: of("line"),
    band: of("band"),
    accent: of("accent"),
    bad: of("bad"),
    onBad: of("page"),
    sliceInk: of("slice-ink"),
    slice: (name, isLock) => (isLock ? lock : (known[name] ?? (name.startsWith("exit") ? exit : phase))),
  };
}

/** Redraws a canvas at once: a print does not wait for the page to render again. */
const painters = new Set<() => void>();

export function usePainter(paint: () => void): void {
  const last = useRef(paint);
  last.current = paint;
  useEffect(() => {
    const own = (): void => last.current();
    painters.add(own);
    return () => void painters.delete(own);
  }, []);
}

/** Print is light, whatever the screen is. */
export function lightInPrint(): void {
  const turn = (on: boolean): void => {
    if (on) document.documentElement.dataset["print"] = "";
    else delete document.documentElement.dataset["print"];
    for (const paint of painters) paint();
  };
  window.addEventListener("beforeprint", () => turn(true));
  window.addEventListener("afterprint", () => turn(false));
}

/** Changes when the system's theme does. */
export function useTheme(): number {
  const [n, set] = useState(0);
  useEffect(() => {
    const again = (): void => set((x) => x + 1);
    const query = window.matchMedia("(prefers-color-scheme: dark)");
    query.addEventListener("change", again);
    return () => query.removeEventListener("change", again);
  }, []);
  return n;
}
