/**
 * Starts the page with the data that lies in it: first what is painted, then the words of the events. The browser's own
 * inflater is several times as fast as one in JavaScript.
 */
import { h, render } from "preact";
import { fromWire, type WireReport } from "../wire.js";
import { App } from "./app.js";
import { lightInPrint } from "./theme.js";

async function part(id: string): Promise<unknown> {
  const text = atob(document.getElementById(id)!.textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const packed = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(c) {
      c.enqueue(bytes);
      c.close();
    },
  });
  return JSON.parse(await new Response(packed.pipeThrough(new DecompressionStream("deflate"))).text());
}

const painted = (): Promise<void> => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));

async function start(): Promise<void> {
  const report = fromWire((await part("data")) as WireReport, []);
  lightInPrint();
  const root = document.getElementById("page")!;
  root.replaceChildren();
  render(h(App, { report, words: false }), root);
  root.dataset["painted"] = "";
  await painted();
  report.texts = (await part("texts")) as string[];
  render(h(App, { report, words: true }), root);
  root.dataset["ready"] = "";
}
void start();
