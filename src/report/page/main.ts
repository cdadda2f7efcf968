/** Starts the page with the data that lies in it. The browser's own inflater is several times as fast as one in JavaScript. */
import { h, render } from "preact";
import type { ReportData } from "../data.js";
import { App } from "./app.js";
import { lightInPrint } from "./theme.js";

async function inflated(base64: string): Promise<string> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

async function start(): Promise<void> {
  const report = JSON.parse(await inflated(document.getElementById("data")!.textContent)) as ReportData;
  lightInPrint();
  const root = document.getElementById("page")!;
  root.replaceChildren();
  render(h(App, { report }), root);
  root.dataset["ready"] = "";
}
void start();
