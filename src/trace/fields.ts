/** One event as text: its fields with the kernel's names, numbers in the base that the declaration says. */
import { findEvent, type EventRecord } from "../sim/events.js";

/** `ipa=0x80000000 hsr=0x93c48005 …`, in declaration order. */
export function fieldsText(e: EventRecord): string {
  const decl = findEvent(e.event);
  if (decl === undefined) return "";
  return decl.fields.map((f) => `${f.name}=${valueText(e[f.name]!, f.kind)}`).join(" ");
}

function valueText(v: number | string | boolean, kind: string): string {
  if (typeof v === "boolean") return v ? "1" : "0";
  if (typeof v === "string") return v;
  return kind === "hex" ? hex(v) : String(v);
}

/** Hexadecimal with its sign; -1 stays -1, as "none". */
export function hex(v: number): string {
  return v < 0 ? String(v) : `0x${v.toString(16)}`;
}

/** 4096 as "4 KiB": exact, else plain bytes. */
export function size(bytes: number): string {
  for (const [unit, name] of [
    [2 ** 40, "TiB"],
    [2 ** 30, "GiB"],
    [2 ** 20, "MiB"],
    [2 ** 10, "KiB"],
  ] as const)
    if (bytes >= unit && bytes % unit === 0) return `${bytes / unit} ${name}`;
  return `${bytes} bytes`;
}
