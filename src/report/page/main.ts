/**
 * Starts the page with the data that lies in it: first what is painted, then the words of the events. The browser's own
 * inflater is several times as fast as one in JavaScript.
 */
import { h, render } from "preact";
import { addWords, fromWire, type Part, type WireReport, type WireWords } from "../wire.js";
import { App } from "./app.js";
import { lightInPrint } from "./theme.js";

async function part<T>(id: string): Promise<Part<T>> {
  const packed = bytesOf(document.getElementById(id)!.textContent);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  const end = 4 + new DataView(bytes).getUint32(0, true);
  return {
    // A buffer of their own: columns begin at multiples of the size of their numbers.
    columns: new Uint8Array(bytes.slice(4, end)),
    json: JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, end))) as T,
  };
}

/** Of base64. */
function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  // Browsers since 2025.
  const { fromBase64 } = Uint8Array as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  if (fromBase64 !== undefined) return fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

const painted = (): Promise<void> => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));

async function start(): Promise<void> {
  const report = fromWire(await part<WireReport>("data"));
  lightInPrint();
  const root = document.getElementById("page")!;
  root.replaceChildren();
  render(h(App, { report, words: false }), root);
  root.dataset["painted"] = "";
  await painted();
  addWords(report, (await part<WireWords>("words")).json);
  render(h(App, { report, words: true }), root);
  root.dataset["ready"] = "";
}
void start();
