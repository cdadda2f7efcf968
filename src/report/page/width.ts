/** How wide a part of the page is. */
import { useState } from "preact/hooks";

/**
 * The width of an element, from before the first paint on; 0 until it is known, so that nothing is drawn twice.
 * @returns the width, `least` at least, and what begins to watch an element and returns what ends it
 */
export function useWidth(least: number): readonly [number, (element: Element) => () => void] {
  const [width, setWidth] = useState(0);
  const watch = (element: Element): (() => void) => {
    const measure = (): void => setWidth(Math.max(element.clientWidth, least));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  };
  return [width, watch];
}
