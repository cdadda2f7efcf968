/**
 * Draws a run's timeline on a canvas: statements on top, then one lane per agent with nested slices, locks,
 * events, and arrows over all. What is narrower than a pixel is drawn once per pixel, so that the time for a
 * picture depends on its width and not on the run's length.
 */
import type { ScaleLinear } from "d3-scale";
import { firstOver, type Lane, type Row, type Run } from "./model.js";

export const GUTTER = 112;
const AXIS = 20;
const STATEMENTS = 20;
const ROW = 18;
const LOCK_ROW = 12;
const EVENTS = 14;
const GAP = 10;
/** Arrows of one picture. */
const MOST_ARROWS = 400;

export type Mode = "order" | "time";

export interface Colours {
  readonly ink: string;
  readonly quiet: string;
  readonly line: string;
  readonly band: string;
  readonly accent: string;
  readonly bad: string;
  /** Text on it. */
  readonly onBad: string;
  readonly slice: (name: string, lock: boolean) => string;
  readonly sliceInk: string;
}

export interface View {
  readonly run: Run;
  readonly mode: Mode;
  /** From the axis' values to pixels, zoomed. */
  readonly x: ScaleLinear<number, number>;
  readonly width: number;
  readonly selected: number;
  /** The event after which the tables below are shown. */
  readonly moment: number;
  /** First difference from the other run, -1 if there is none. */
  readonly difference: number;
}

interface Place {
  readonly lane: Lane;
  readonly top: number;
  /** Tops of its rows, then of its events. */
  readonly rows: readonly number[];
  readonly events: number;
  readonly bottom: number;
}

export function layout(run: Run): { readonly places: readonly Place[]; readonly height: number } {
  let y = AXIS + STATEMENTS + GAP;
  const places = run.lanes.map((lane): Place => {
    const top = y;
    const rows = lane.rows.map((r) => {
      const at = y;
      y += r.lock ? LOCK_ROW : ROW;
      return at;
    });
    const events = y;
    y += EVENTS;
    const bottom = y;
    y += GAP;
    return { lane, top, rows, events, bottom };
  });
  return { places, height: y };
}

/** The axis' value of an event. */
export function valueOf(run: Run, mode: Mode, seq: number): number {
  return mode === "order" ? seq - run.first : run.timeOf(seq);
}
export function extent(run: Run, mode: Mode): number {
  return Math.max(mode === "order" ? run.last - run.first : run.timeOf(run.last), 1);
}
/** The event at, or the next after, a value of the axis. */
function seqAt(run: Run, mode: Mode, value: number): number {
  if (mode === "order") return run.first + Math.ceil(value);
  return run.first + firstOver(run.time, (t) => t, value - 1e-9);
}

export function draw(g: CanvasRenderingContext2D, view: View, colours: Colours, font: string): void {
  const { run, width } = view;
  const { places, height } = layout(run);
  g.clearRect(0, 0, width, height);
  g.font = `11px ${font}`;
  g.textBaseline = "middle";
  g.save();
  g.beginPath();
  g.rect(GUTTER, 0, width - GUTTER, height);
  g.clip();
  axis(g, view, colours, height);
  statements(g, view, colours, height);
  for (const p of places) {
    g.fillStyle = colours.band;
    g.fillRect(GUTTER, p.top - 3, width - GUTTER, p.bottom - p.top + 6);
    for (const [n, row] of p.lane.rows.entries()) slices(g, view, colours, row, p.rows[n]!);
    events(g, view, colours, p);
  }
  arrows(g, view, colours, places);
  mark(g, view, colours, "accent", view.selected, height, [], "");
  if (view.moment !== view.selected) mark(g, view, colours, "accent", view.moment, height, [2, 3], "");
  if (view.difference >= 0) mark(g, view, colours, "bad", view.difference, height, [6, 3], "first difference");
  g.restore();
  g.fillStyle = colours.quiet;
  g.fillText(view.mode === "order" ? "event" : "virtual time", 4, AXIS / 2);
  g.fillText("statement", 4, AXIS + STATEMENTS / 2);
  for (const p of places) {
    g.fillStyle = colours.ink;
    g.font = `600 12px ${font}`;
    g.fillText(fitted(p.lane.name, GUTTER - 8, 7), 4, (p.rows[0] ?? p.events) + 9);
    g.font = `11px ${font}`;
    g.fillStyle = colours.quiet;
    g.fillText("events", 4, p.events + EVENTS / 2);
    const lock = p.lane.rows.findIndex((r) => r.lock);
    if (lock > 0) g.fillText("locks", 4, p.rows[lock]! + LOCK_ROW / 2);
  }
}

function axis(g: CanvasRenderingContext2D, view: View, colours: Colours, height: number): void {
  const { x, run, mode } = view;
  for (const t of x.ticks(Math.max((view.width - GUTTER) / 110, 2))) {
    const at = Math.round(x(t)) + 0.5;
    g.strokeStyle = colours.line;
    g.lineWidth = 1;
    g.beginPath();
    g.moveTo(at, AXIS - 4);
    g.lineTo(at, height);
    g.stroke();
    g.fillStyle = colours.quiet;
    const label = mode === "order" ? (Number.isInteger(t) ? String(t + run.first) : "") : timeText(t);
    g.fillText(label, at + 3, AXIS / 2);
  }
}

export function timeText(ns: number): string {
  const [value, unit] = ns >= 1e9 ? [ns / 1e9, "s"] : ns >= 1e6 ? [ns / 1e6, "ms"] : ns >= 1e3 ? [ns / 1e3, "\u00b5s"] : [ns, "ns"];
  return `${Number(value.toFixed(3))} ${unit}`;
}

function statements(g: CanvasRenderingContext2D, view: View, colours: Colours, height: number): void {
  const { run, mode, x, width } = view;
  let from = run.first;
  let drawn = -Infinity;
  for (const [n, s] of run.data.steps.entries()) {
    const left = x(valueOf(run, mode, from));
    const right = x(valueOf(run, mode, Math.min(s.to, run.last)));
    from = Math.max(from, s.to);
    if (right < GUTTER || left > width || right - drawn < 1) continue;
    drawn = right;
    g.fillStyle = n % 2 === 0 ? colours.band : colours.line;
    g.fillRect(left, AXIS, Math.max(right - left, 1), STATEMENTS - 2);
    g.fillStyle = colours.line;
    g.fillRect(Math.round(right), AXIS, 1, height - AXIS);
    label(g, `${s.line}  ${s.text}`, left, right, AXIS + STATEMENTS / 2, colours.ink);
  }
}

function slices(g: CanvasRenderingContext2D, view: View, colours: Colours, row: Row, top: number): void {
  const { run, mode, x, width } = view;
  const height = (row.lock ? LOCK_ROW : ROW) - 2;
  const begin = seqAt(run, mode, x.invert(GUTTER));
  let i = Math.max(
    firstOver(row.to, (s) => s, begin - 1),
    0,
  );
  while (i < row.from.length) {
    const left = x(valueOf(run, mode, row.from[i]!));
    if (left > width) break;
    const right = x(valueOf(run, mode, row.to[i]!));
    g.fillStyle = colours.slice(row.name[i]!, row.lock);
    g.fillRect(left, top, Math.max(right - left - 0.5, 1), height);
    if (right - left > 24) label(g, row.name[i]!, left, right, top + height / 2 + 0.5, colours.sliceInk);
    i++;
    if (right - left < 1) {
      // The next one that begins on another pixel.
      const next = seqAt(run, mode, x.invert(Math.floor(left) + 1));
      i = Math.max(
        i,
        firstOver(row.from, (s) => s, next - 1),
      );
    }
  }
}

function events(g: CanvasRenderingContext2D, view: View, colours: Colours, p: Place): void {
  const { run, mode, x, width } = view;
  const { events: all } = p.lane;
  let i = firstOver(all, (s) => s, seqAt(run, mode, x.invert(GUTTER)) - 1);
  while (i < all.length) {
    const seq = all[i]!;
    const at = x(valueOf(run, mode, seq));
    if (at > width) break;
    const tells = run.story.has(seq);
    g.fillStyle = tells ? colours.ink : colours.quiet;
    g.fillRect(Math.round(at) - (tells ? 1 : 0), p.events + (tells ? 1 : 5), tells ? 2 : 1, tells ? EVENTS - 4 : EVENTS - 8);
    i++;
    const next = seqAt(run, mode, x.invert(Math.floor(at) + 1));
    i = Math.max(
      i,
      firstOver(all, (s) => s, next - 1),
    );
  }
}

function arrows(g: CanvasRenderingContext2D, view: View, colours: Colours, places: readonly Place[]): void {
  const { run, mode, x, width } = view;
  const yOf = (seq: number): number => {
    const p = places.find((q) => q.lane.agent === run.agent(seq));
    return p === undefined ? 0 : p.events + EVENTS / 2;
  };
  let drawn = 0;
  let pixel = -Infinity;
  let labelled = -Infinity;
  for (const a of run.data.arrows) {
    if (!run.has(a.from) || !run.has(a.to)) continue;
    const left = x(valueOf(run, mode, a.from));
    const right = x(valueOf(run, mode, a.to));
    const chosen = a.from === view.selected || a.to === view.selected;
    if (right < GUTTER || left > width || (!chosen && (right - left < 6 || right - pixel < 3))) continue;
    if (++drawn > MOST_ARROWS) break;
    pixel = right;
    const [y1, y2] = [yOf(a.from), yOf(a.to)];
    const lift = y1 === y2 ? Math.min(26, 8 + (right - left) / 12) : 0;
    g.strokeStyle = g.fillStyle = chosen ? colours.accent : colours.ink;
    g.globalAlpha = chosen ? 1 : 0.7;
    g.lineWidth = chosen ? 2 : 1;
    g.setLineDash(a.what === "unmapped, still cached" ? [4, 3] : []);
    g.beginPath();
    g.moveTo(left, y1);
    const middle = (left + right) / 2;
    if (y1 === y2) g.quadraticCurveTo(middle, y1 + lift, right, y2);
    else g.bezierCurveTo(middle, y1, middle, y2, right, y2);
    g.stroke();
    g.setLineDash([]);
    g.beginPath();
    g.moveTo(right, y2);
    g.lineTo(right - 6, y2 - 3 + (lift > 0 ? 2 : 0));
    g.lineTo(right - 6, y2 + 3 + (lift > 0 ? 2 : 0));
    g.fill();
    g.globalAlpha = 1;
    if (right - left <= 120 || (!chosen && Math.abs(middle - labelled) < 130)) continue;
    labelled = middle;
    label(g, a.what, middle - 60, middle + 60, (y1 + y2) / 2 + (lift > 0 ? lift / 2 + 2 : -6), colours.ink);
  }
}

function mark(
  g: CanvasRenderingContext2D,
  view: View,
  colours: Colours,
  colour: "accent" | "bad",
  seq: number,
  height: number,
  dash: number[],
  text: string,
): void {
  if (!view.run.has(seq)) return;
  const at = Math.round(view.x(valueOf(view.run, view.mode, seq))) + 0.5;
  g.strokeStyle = colours[colour];
  g.lineWidth = 1.5;
  g.setLineDash(dash);
  g.beginPath();
  g.moveTo(at, AXIS - 2);
  g.lineTo(at, height);
  g.stroke();
  g.setLineDash([]);
  if (text === "") return;
  const wide = g.measureText(text).width + 8;
  const left = Math.min(at, view.width - wide);
  g.fillStyle = colours[colour];
  g.fillRect(left, 0, wide, 14);
  g.fillStyle = colours.onBad;
  g.fillText(text, left + 4, 7.5);
}
const fitted = (text: string, width: number, letter = 6): string => {
  const room = Math.floor(width / letter);
  return text.length <= room ? text : room < 2 ? "" : `${text.slice(0, room - 1)}\u2026`;
};

/** A text in a box, its beginning kept in sight. */
function label(g: CanvasRenderingContext2D, text: string, left: number, right: number, y: number, colour: string): void {
  const from = Math.max(left, GUTTER) + 3;
  const said = fitted(text, right - from - 2);
  if (said === "") return;
  g.fillStyle = colour;
  g.fillText(said, from, y);
}

/** The event that a click means: a slice's first, or the nearest of the lane. -1: none. */
export function hit(view: View, px: number, py: number): { readonly seq: number; readonly what: string } {
  const { run, mode, x } = view;
  const { places } = layout(run);
  const p = places.find((q) => py >= q.top - GAP / 2 && py <= q.bottom + GAP / 2);
  if (p === undefined || px < GUTTER) return { seq: -1, what: "" };
  const value = x.invert(px);
  for (const [n, row] of p.lane.rows.entries()) {
    const top = p.rows[n]!;
    if (py < top || py >= top + (row.lock ? LOCK_ROW : ROW)) continue;
    const i = firstOver(row.from, (s) => valueOf(run, mode, s), value) - 1;
    if (i >= 0 && valueOf(run, mode, row.to[i]!) >= value) return { seq: row.from[i]!, what: row.name[i]! };
  }
  return { seq: nearest(p.lane.events, (s) => x(valueOf(run, mode, s)), px, run), what: "" };
}

/** The event closest to a pixel; among those on about the same one, an event of the story. */
function nearest(all: readonly number[], at: (seq: number) => number, px: number, run: Run): number {
  const after = firstOver(all, at, px);
  let best = -1;
  let score = Infinity;
  for (let i = Math.max(after - 20, 0); i < Math.min(after + 20, all.length); i++) {
    const away = Math.abs(at(all[i]!) - px) + (run.story.has(all[i]!) ? 0 : 4);
    if (away < score) [best, score] = [all[i]!, away];
  }
  return best;
}
