/** The timeline as a part of the page: zoom and pan by mouse, touch and keyboard, a click that chooses an event. */
import { scaleLinear } from "d3-scale";
import { select } from "d3-selection";
import { zoom, zoomIdentity, type ZoomBehavior, type ZoomTransform } from "d3-zoom";
import { h, type ComponentChild } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { draw, extent, GUTTER, hit, layout, valueOf, type Mode, type View } from "./draw.js";
import { colours, FONT, usePainter, useTheme } from "./theme.js";
import { firstOver, type Run } from "./model.js";
import { useWidth } from "./width.js";

export interface TimelineProps {
  readonly run: Run;
  readonly mode: Mode;
  readonly selected: number;
  readonly moment: number;
  readonly difference: number;
  /** Events to bring into sight when this object changes. */
  readonly show: { readonly from: number; readonly to: number } | undefined;
  choose(seq: number): void;
}

const STEP = 1.6;

export function Timeline(props: TimelineProps): ComponentChild {
  const { run, mode, selected } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const behaviour = useRef<ZoomBehavior<HTMLCanvasElement, unknown>>(null);
  const [transform, setTransform] = useState<ZoomTransform>(zoomIdentity);
  const [width, watch] = useWidth(320);
  const theme = useTheme();
  const { height } = layout(run);
  const base = scaleLinear()
    .domain([0, extent(run, mode)])
    .range([GUTTER + 4, width - 8]);
  const view: View = { ...props, width, x: transform.rescaleX(base) };
  const seen = useRef(view);
  seen.current = view;

  useLayoutEffect(() => {
    const element = canvas.current!;
    const stop = watch(element.parentElement!);
    const z = zoom<HTMLCanvasElement, unknown>()
      .filter((e: MouseEvent) => e.button === 0 && (e.type !== "wheel" || e.ctrlKey || document.activeElement === element))
      .on("zoom", (e: { transform: ZoomTransform }) => setTransform(e.transform));
    behaviour.current = z;
    select(element).call(z).on("dblclick.zoom", null);
    return stop;
  }, []);

  useLayoutEffect(() => {
    const z = behaviour.current!;
    z.scaleExtent([1, Math.max(extent(run, mode) / 8, 1)])
      .extent([
        [GUTTER, 0],
        [width, height],
      ])
      .translateExtent([
        [GUTTER, 0],
        [width, height],
      ]);
  }, [run, mode, width, height]);

  useEffect(() => void select(canvas.current!).call(behaviour.current!.transform, zoomIdentity), [run, mode]);

  const paint = (): void => {
    if (width === 0) return;
    const element = canvas.current!;
    const ratio = window.devicePixelRatio || 1;
    const [w, t] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (element.width !== w || element.height !== t) [element.width, element.height] = [w, t];
    const g = element.getContext("2d")!;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    const from = performance.now();
    draw(g, view, colours(), FONT);
    // For tools/measure-report.mjs.
    element.dataset["drawn"] = (performance.now() - from).toFixed(2);
  };
  usePainter(paint);
  useLayoutEffect(paint, [run, mode, width, height, transform, selected, props.moment, props.difference, theme]);

  const scale = (k: number): void => {
    const at = Math.min(Math.max(seen.current.x(valueOf(run, mode, selected)), GUTTER), width);
    select(canvas.current!).call(behaviour.current!.scaleBy, k, [at, 0]);
  };
  const fit = (): void => void select(canvas.current!).call(behaviour.current!.transform, zoomIdentity);
  const showRange = (from: number, to: number): void => {
    const [a, b] = [base(valueOf(run, mode, from)), base(valueOf(run, mode, to))];
    const k = Math.min(Math.max((width - GUTTER) / Math.max((b - a) * 1.2, 1e-6), 1), Math.max(extent(run, mode) / 8, 1));
    const middle = (GUTTER + width) / 2;
    select(canvas.current!).call(behaviour.current!.transform, zoomIdentity.translate(middle - (k * (a + b)) / 2, 0).scale(k));
  };
  useEffect(() => {
    if (props.show !== undefined) showRange(props.show.from, props.show.to);
  }, [props.show]);
  useEffect(() => {
    const at = seen.current.x(valueOf(run, mode, selected));
    if (at < GUTTER + 8 || at > width - 8) {
      const z = behaviour.current!;
      select(canvas.current!).call(z.translateTo, base(valueOf(run, mode, selected)), 0);
    }
  }, [selected]);

  const choose = (seq: number): void => {
    if (run.has(seq)) props.choose(seq);
  };
  const neighbour = (by: number): void => {
    const story = run.data.events.story;
    const next = firstOver(story, (s) => s, by > 0 ? selected : selected - 1) - (by > 0 ? 0 : 1);
    if (story[next] !== undefined) choose(story[next]);
  };
  const lane = (by: number): void => {
    const at = run.lanes.findIndex((l) => l.agent === run.agent(selected));
    const to = run.lanes[at + by];
    if (to !== undefined)
      choose(
        to.events[
          Math.min(
            firstOver(to.events, (s) => s, selected),
            to.events.length - 1,
          )
        ]!,
      );
  };
  const onKeyDown = (e: KeyboardEvent): void => {
    const keys: Readonly<Record<string, () => void>> = {
      ArrowRight: () => (e.shiftKey ? choose(selected + 1) : neighbour(1)),
      ArrowLeft: () => (e.shiftKey ? choose(selected - 1) : neighbour(-1)),
      ArrowDown: () => lane(1),
      ArrowUp: () => lane(-1),
      "+": () => scale(STEP),
      "=": () => scale(STEP),
      "-": () => scale(1 / STEP),
      "0": fit,
      Home: () => choose(run.first),
      End: () => choose(run.last),
    };
    const action = keys[e.key];
    if (action === undefined || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    action();
  };
  const at = (e: MouseEvent): { seq: number; what: string } => {
    const box = canvas.current!.getBoundingClientRect();
    return hit(seen.current, e.clientX - box.left, e.clientY - box.top);
  };
  const lanes = run.lanes.map((l) => l.name).join(", ");
  return h(
    "div",
    { class: "timeline" },
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onClick: () => scale(STEP), "aria-label": "zoom in" }, "+"),
      h("button", { type: "button", onClick: () => scale(1 / STEP), "aria-label": "zoom out" }, "\u2212"),
      h("button", { type: "button", onClick: fit }, "whole run"),
      h(
        "button",
        {
          type: "button",
          onClick: () => {
            const s = run.stepOf(selected);
            const before = run.data.steps[run.data.steps.indexOf(s!) - 1];
            showRange(before?.to ?? run.first, Math.min(s?.to ?? run.last, run.last));
          },
        },
        "this statement",
      ),
    ),
    h(
      "div",
      { class: "canvas" },
      h("canvas", {
        ref: canvas,
        tabIndex: 0,
        role: "application",
        "aria-label": `Timeline of ${run.data.name}: ${run.last - run.first + 1} events in the lanes ${lanes}. Left and right go from event to event, up and down between lanes, plus and minus zoom.`,
        style: { height: `${height}px` },
        onKeyDown,
        onClick: (e: MouseEvent) => choose(at(e).seq),
        onMouseMove: (e: MouseEvent) => {
          const { seq, what } = at(e);
          canvas.current!.title =
            seq < 0 ? "" : what !== "" ? `${what} (from event ${seq})` : `${seq} ${run.kind(seq).name} ${run.text(seq)}`;
        },
      }),
    ),
  );
}
