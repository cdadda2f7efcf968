/** One line on stderr that says how far a long piece of work is; on a terminal only. */

/** Milliseconds between two lines. */
const EVERY = 100;

export interface Progress {
  show(text: string): void;
  /** Takes the line away. */
  clear(): void;
}

export function progressLine(stream: NodeJS.WriteStream = process.stderr): Progress {
  if (!stream.isTTY) return { show: () => undefined, clear: () => undefined };
  let last = -Infinity;
  let shown = false;
  return {
    show: (text) => {
      const now = performance.now();
      if (now - last < EVERY) return;
      last = now;
      shown = true;
      stream.write(`\r${text.slice(0, (stream.columns || 80) - 1)}\x1b[K`);
    },
    clear: () => {
      if (shown) stream.write("\r\x1b[K");
    },
  };
}
