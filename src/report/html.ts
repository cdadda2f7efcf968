/**
 * The page as one file: script, style and data lie in it, and nothing is fetched. A content security policy
 * forbids the rest. The texts of a script come from strangers: they are data here, and text nodes in the page.
 */
import { createHash } from "node:crypto";
import { strToU8, zlibSync } from "fflate";
import type { ReportData } from "./data.js";
import { toWire, type Part } from "./wire.js";

export interface PageParts {
  /** The page's program, bundled. */
  readonly script: string;
  readonly style: string;
}

/**
 * A part of the data as the page reads it back: the length of its columns in four bytes, the lowest first, the columns, the JSON; deflated (in plain JavaScript, so that every machine gives the same bytes), base64.
 */
export function packed({ json, columns }: Part<unknown>): string {
  const text = strToU8(JSON.stringify(json));
  const bytes = new Uint8Array(4 + columns.length + text.length);
  new DataView(bytes.buffer).setUint32(0, columns.length, true);
  bytes.set(columns, 4);
  bytes.set(text, 4 + columns.length);
  return Buffer.from(zlibSync(bytes, { level: 6 })).toString("base64");
}

export function escapeHtml(text: string): string {
  const named: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (c) => named[c]!);
}

const hash = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

export function pageHtml(data: ReportData, parts: PageParts): string {
  const policy = `default-src 'none'; script-src ${hash(parts.script)}; style-src ${hash(parts.style)}; base-uri 'none'; form-action 'none'`;
  const { first, words } = toWire(data);
  const title = data.title === "" ? data.file : data.title;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="faultline ${escapeHtml(data.version)}">
<title>${escapeHtml(title)}</title>
<style>${parts.style}</style>
</head>
<body>
<div id="page"><p>${escapeHtml(title)}: this page needs JavaScript, which it brings along.</p></div>
<script type="text/plain" id="data">${packed(first)}</script>
<script type="text/plain" id="words">${packed({ json: words, columns: new Uint8Array(0) })}</script>
<script>${parts.script}</script>
</body>
</html>
`;
}
