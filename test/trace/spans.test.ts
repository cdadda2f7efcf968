import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import protobuf from "protobufjs";
import { describe, expect, test } from "vitest";
import "../../src/machine.js";
import { eventCatalogue, findEvent, RECORD_WORDS } from "../../src/sim/events.js";
import { Invalidations } from "../../src/trace/invalidations.js";
import { SPAN_EVENTS } from "../../src/trace/spans.js";
import { COUNTED_EVENTS } from "../../src/trace/statistics.js";
import { folder, madeUp, RACE, text, traced, write } from "./tracing.js";

interface ChromeEvent {
  readonly ph: string;
  readonly tid: number;
  readonly ts: number;
  readonly name?: string;
  readonly id?: number;
  readonly args?: Record<string, number | string | boolean>;
}
/** A slice as both formats tell it, for one comparison. */
interface Slice {
  readonly track: string;
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

const { events, files } = traced(RACE, ["chrome", "perfetto"]);
const chrome = (JSON.parse(text(files.chrome)) as { traceEvents: ChromeEvent[] }).traceEvents;
const trackNames = new Map(chrome.filter((e) => e.ph === "M" && e.name === "thread_name").map((e) => [e.tid, String(e.args!["name"])]));

function chromeSlices(): Slice[] {
  const out: Slice[] = [];
  const open = new Map<number, { name: string; from: number }[]>();
  for (const e of chrome) {
    const track = trackNames.get(e.tid)!;
    const stack = open.get(e.tid) ?? [];
    open.set(e.tid, stack);
    if (e.ph === "B") stack.push({ name: e.name!, from: Math.round(e.ts * 1000) });
    if (e.ph === "E") out.push({ track, ...stack.pop()!, to: Math.round(e.ts * 1000) });
  }
  for (const stack of open.values()) expect(stack).toEqual([]);
  return out;
}

/** The messages of Perfetto's protos, as far as they are used; numbers from perfetto's repository. */
const SCHEMA = `syntax = "proto2";
message Trace { repeated TracePacket packet = 1; }
message TracePacket { optional uint64 timestamp = 8; optional uint32 trusted_packet_sequence_id = 10;
  optional TrackEvent track_event = 11; optional TrackDescriptor track_descriptor = 60; }
message TrackDescriptor { optional uint64 uuid = 1; optional string name = 2; optional ProcessDescriptor process = 3;
  optional uint64 parent_uuid = 5; optional CounterDescriptor counter = 8; }
message ProcessDescriptor { optional int32 pid = 1; optional string process_name = 6; }
message CounterDescriptor { optional int32 type = 1; }
message TrackEvent { enum Type { TYPE_UNSPECIFIED = 0; TYPE_SLICE_BEGIN = 1; TYPE_SLICE_END = 2; TYPE_INSTANT = 3; TYPE_COUNTER = 4; }
  repeated DebugAnnotation debug_annotations = 4; optional Type type = 9; optional uint64 track_uuid = 11; optional string name = 23;
  optional int64 counter_value = 30; repeated fixed64 flow_ids = 47; repeated fixed64 terminating_flow_ids = 48; }
message DebugAnnotation { optional string name = 10; optional bool bool_value = 2; optional uint64 uint_value = 3;
  optional int64 int_value = 4; optional string string_value = 6; }`;

interface Packet {
  readonly timestamp: number;
  readonly trackEvent?: {
    readonly type: string;
    readonly trackUuid: number;
    readonly name?: string;
    readonly counterValue?: number;
    readonly flowIds?: number[];
    readonly terminatingFlowIds?: number[];
    readonly debugAnnotations?: { name: string; uintValue?: number; intValue?: number; boolValue?: boolean; stringValue?: string }[];
  };
  readonly trackDescriptor?: { readonly uuid: number; readonly name?: string; readonly parentUuid?: number; readonly counter?: object };
}
const Trace = protobuf.parse(SCHEMA).root.lookupType("Trace");
const packets = (Trace.toObject(Trace.decode(readFileSync(files.perfetto)), { longs: Number, enums: String }) as { packet: Packet[] })
  .packet;
const tracks = new Map(packets.flatMap((p) => (p.trackDescriptor === undefined ? [] : [[p.trackDescriptor.uuid, p.trackDescriptor]])));
/** As the trace processor does: by time, equal times in the order of the file. */
const sorted = packets.filter((p) => p.trackEvent !== undefined).sort((a, b) => a.timestamp - b.timestamp);

function perfettoSlices(): Slice[] {
  const out: Slice[] = [];
  const open = new Map<number, { name: string; from: number }[]>();
  for (const p of sorted) {
    const e = p.trackEvent!;
    const stack = open.get(e.trackUuid) ?? [];
    open.set(e.trackUuid, stack);
    if (e.type === "TYPE_SLICE_BEGIN") stack.push({ name: e.name!, from: p.timestamp });
    if (e.type === "TYPE_SLICE_END") out.push({ track: tracks.get(e.trackUuid)!.name!, ...stack.pop()!, to: p.timestamp });
  }
  for (const stack of open.values()) expect(stack).toEqual([]);
  return out;
}

const inOrder = (s: readonly Slice[]): string[] => s.map((x) => `${x.track} ${x.from}-${x.to} ${x.name}`).sort();
const slices = chromeSlices();
const count = (name: string): number => events.filter((e) => e.event === name).length;

describe("a run as slices", () => {
  test("the events that slices and statistics name are declared", () => {
    expect([...SPAN_EVENTS, ...COUNTED_EVENTS].filter((n) => findEvent(n) === undefined)).toEqual([]);
  });
  test("there is a track per agent with its thread's name", () => {
    expect([...trackNames.values()].filter((n) => !n.endsWith(" locks"))).toEqual(["vmm", "CPU 0/KVM", "CPU 1/KVM"]);
  });
  test("slices of a track nest", () => {
    for (const track of trackNames.values()) {
      const mine = slices.filter((s) => s.track === track);
      for (const a of mine)
        for (const b of mine) if (a.from < b.from && b.from < a.to) expect(b.to, `${a.name} ${b.name}`).toBeLessThanOrEqual(a.to);
    }
  });
  test("viewers that sort events of one time by kind, or take them as they come, read the same: only B and E, in order, matched by name", () => {
    expect(chrome.filter((e) => e.ph === "X")).toEqual([]);
    const open = new Map<number, string[]>();
    const times = new Map<number, number>();
    for (const e of chrome.filter((c) => c.ph === "B" || c.ph === "E")) {
      expect(e.ts).toBeGreaterThanOrEqual(times.get(e.tid) ?? 0);
      times.set(e.tid, e.ts);
      const stack = open.get(e.tid) ?? [];
      open.set(e.tid, stack);
      if (e.ph === "B") stack.push(e.name!);
      else expect(e.name).toBe(stack.pop());
    }
  });
  test("each fault is a slice, in an exit, and its phases fill it", () => {
    const faults = slices.filter((s) => s.name === "kvm_handle_guest_abort");
    expect(faults).toHaveLength(count("kvm_guest_fault"));
    for (const f of faults) {
      const within = slices.filter((s) => s.track === f.track && s.from <= f.from && s.to >= f.to).map((s) => s.name);
      expect(within.some((n) => n.startsWith("exit: "))).toBe(true);
    }
    const phases = new Set(["gfn_to_memslot", "find_vma", "topup memory cache", "gfn to pfn", "stage 2"]);
    const whole = faults.filter((f) =>
      slices.some((s) => s.name === "stage 2" && s.track === f.track && s.to === f.to && s.from >= f.from),
    );
    expect(whole.length).toBeGreaterThan(0);
    for (const f of whole) {
      const mine = slices.filter((s) => phases.has(s.name) && s.track === f.track && s.from >= f.from && s.to <= f.to);
      expect(mine.reduce((n, s) => n + s.to - s.from, 0)).toBe(f.to - f.from);
    }
  });
  test("each call of the VMM is a slice with its arguments and what it returned; KVM_RUN is one around its exits", () => {
    const calls = (tid: number, name: string) => chrome.filter((e) => e.tid === tid && e.ph === "B" && e.name === name);
    const tid = (name: string): number => [...trackNames].find(([, n]) => n === name)![0];
    expect(calls(tid("vmm"), "mmap").map((e) => e.args)).toEqual([
      { addr: "0x0", length: 0x400000, prot: "0x3", flags: "0x22", fd: -1, offset: "0x0" },
    ]);
    // MADV_NOHUGEPAGE once, MADV_DONTNEED 40 times.
    expect(calls(tid("vmm"), "madvise").map((e) => e.args!["advice"])).toEqual(["0xf", ...Array.from({ length: 40 }, () => "0x4")]);
    expect(calls(tid("vmm"), "store")).toHaveLength(8);
    for (const vcpu of ["CPU 0/KVM", "CPU 1/KVM"]) {
      const runs = slices.filter((s) => s.track === vcpu && s.name === "KVM_RUN");
      expect(runs.length).toBeGreaterThan(0);
      const exits = slices.filter((s) => s.track === vcpu && s.name.startsWith("exit: "));
      for (const x of exits) expect(runs.filter((r) => r.from <= x.from && x.to <= r.to)).toHaveLength(1);
    }
    const ends = chrome.filter((e) => e.tid === tid("vmm") && e.ph === "E" && e.args !== undefined);
    expect(ends.map((e) => e.args!["ret"]).filter((r) => r !== 0)).toEqual([expect.stringMatching(/^0xffff[0-9a-f]{8}$/)]);
  });
  test("an invalidation lies in the call that makes it, and its phases fill it", () => {
    const invalidations = slices.filter((s) => s.name === "invalidate_range");
    expect(invalidations).toHaveLength(count("mmu_notifier_invalidate_range_start"));
    for (const i of invalidations) {
      const within = (s: Slice) => s.track === i.track && s.from >= i.from && s.to <= i.to;
      expect(slices.some((s) => s.name === "madvise" && s.track === i.track && s.from <= i.from && s.to >= i.to)).toBe(true);
      const phases = slices.filter((s) => within(s) && ["invalidate_range_start: subscribers", "host page tables"].includes(s.name));
      expect(phases.reduce((n, s) => n + s.to - s.from, 0)).toBe(i.to - i.from);
    }
    expect(slices.some((s) => s.name === "host page tables")).toBe(true);
  });
  test("a retry's cause is the invalidation over its address, or in its time", () => {
    const all = new Invalidations();
    all.started({ agent: 0, time: 10, from: 0x1000, to: 0x2000 });
    all.started({ agent: 3, time: 20, from: 0x8000, to: 0x9000 });
    const cause = (since: number, hva: number) => all.causeOf(since, hva)?.time;
    expect([cause(5, 0x1800), cause(5, 0x8000), cause(5, 0x5000)]).toEqual([10, 20, 20]);
    all.ended(3, 40);
    expect([cause(39, 0x8000), cause(41, 0x8000)]).toEqual([20, 10]);
    all.ended(0, 50);
    expect(cause(51, 0x1800)).toBeUndefined();
  });
  test("an arrow goes from an invalidate_range_start to each retry", () => {
    const starts = chrome.filter((e) => e.ph === "s");
    const ends = chrome.filter((e) => e.ph === "f");
    expect(count("mmu_retry")).toBeGreaterThan(0);
    expect(ends).toHaveLength(count("mmu_retry"));
    for (const e of ends) {
      const start = starts.filter((s) => s.id === e.id);
      expect(start).toHaveLength(1);
      expect(trackNames.get(start[0]!.tid)).toBe("vmm");
      expect(start[0]!.ts).toBeLessThanOrEqual(e.ts);
      expect(slices.some((s) => s.track === "vmm" && s.name === "invalidate_range" && s.from === Math.round(start[0]!.ts * 1000))).toBe(
        true,
      );
    }
  });
  test("the counters follow stage 2 and the sequence", () => {
    const values = (name: string): number[] => chrome.filter((e) => e.ph === "C" && e.name === name).map((e) => Number(e.args!["value"]));
    const valid = (v: unknown): number => Number(BigInt(String(v)) & 1n);
    let pages = 0;
    const expected: number[] = [];
    for (const e of events.filter((x) => x.event === "stage2_entry" && x["level"] === 3)) {
      const delta = valid(e["new"]) - valid(e["old"]);
      pages += delta;
      if (delta !== 0) expected.push(pages);
    }
    expect(values("stage-2 pages mapped")).toEqual(expected);
    const seq = values("mmu_invalidate_seq");
    expect(seq).toEqual(seq.map((_, i) => i + 1));
    expect(seq.length).toBe(count("mmu_notifier_invalidate_range_end"));
    const retry = events.filter((e) => e.event === "mmu_retry").at(-1)!;
    expect(Number(retry["now"])).toBeLessThanOrEqual(seq.length);
  });
});

describe("Perfetto's protobuf, read by a decoder of its own", () => {
  test("tells the same slices as the Chrome JSON", () => {
    expect(inOrder(perfettoSlices())).toEqual(inOrder(slices));
  });
  test("has the same arrows and counters", () => {
    const starts = sorted.flatMap((p) => p.trackEvent!.flowIds ?? []);
    const ends = sorted.flatMap((p) => p.trackEvent!.terminatingFlowIds ?? []);
    expect(ends.sort()).toEqual(starts.sort());
    expect(ends).toHaveLength(count("mmu_retry"));
    const counters = sorted.filter((p) => p.trackEvent!.type === "TYPE_COUNTER");
    const said = counters.map((p) => `${p.timestamp} ${tracks.get(p.trackEvent!.trackUuid)!.name!} ${p.trackEvent!.counterValue!}`);
    const same = chrome.filter((e) => e.ph === "C").map((e) => `${Math.round(e.ts * 1000)} ${e.name!} ${String(e.args!["value"])}`);
    expect(said.sort()).toEqual(same.sort());
  });
  test("every track hangs under the process, and an event's fields are its annotations", () => {
    for (const t of tracks.values()) if (t.uuid !== 1) expect(t.parentUuid).toBe(1);
    const faults = sorted.filter((p) => p.trackEvent!.name === "kvm_handle_guest_abort").map((p) => p.trackEvent!.debugAnnotations!);
    const fields = faults.map((a) => Object.fromEntries(a.map((x) => [x.name, x.stringValue ?? x.uintValue ?? x.intValue ?? x.boolValue])));
    const expected = events
      .filter((e) => e.event === "kvm_guest_fault")
      .map((e) => ({ vcpu_pc: e["vcpu_pc"], hsr: e["hsr"], hxfar: e["hxfar"], ipa: `0x${Number(e["ipa"]).toString(16)}` }));
    expect(fields).toEqual(expected);
  });
});

test("the fields of an event are those of its record, addresses and masks in hexadecimal, in both formats", () => {
  const file = join(folder(), "t");
  const hex = new Set(eventCatalogue().flatMap((e) => e.fields.filter((f) => f.kind === "hex").map((f) => `${e.name} ${f.name}`)));
  /** These only end slices, or are slices of locks. */
  const WITHOUT = new Set(["lock_acquired", "lock_released", "mmu_notifier_invalidate_range_end"]);
  fc.assert(
    fc.property(madeUp(), (m) => {
      // Pages are counted, which takes a level and an old descriptor that can be: words 2, and 4 and 5.
      m.ring.set([3, 0x1000, 0, 0], findEvent("stage2_entry")!.id * RECORD_WORDS + 6);
      const records = Array.from({ length: m.records }, (_, i) => m.sim.bus.decode(m.ring, i * RECORD_WORDS));
      const expected = records
        .filter((e) => !WITHOUT.has(e.event))
        .map(({ seq, time, agent, event, ...fields }) => {
          void [seq, time, agent];
          const said = Object.entries(fields).map(([k, v]) => {
            const n = Number(v);
            return [k, hex.has(`${event} ${k}`) ? (n < 0 ? String(n) : `0x${n.toString(16)}`) : v] as const;
          });
          return Object.fromEntries(said);
        })
        .filter((f) => Object.keys(f).length > 0);
      write(m, "chrome", file);
      const written = (JSON.parse(text(file)) as { traceEvents: ChromeEvent[] }).traceEvents;
      const args = written.filter((e) => e.ph === "i" || e.ph === "B").map((e) => e.args ?? {});
      expect(args.filter((a) => Object.keys(a).length > 0)).toEqual(expected);
      write(m, "perfetto", file);
      const { packet } = Trace.toObject(Trace.decode(readFileSync(file)), { longs: Number, enums: String }) as { packet: Packet[] };
      const annotations = packet
        .map((p) => p.trackEvent?.debugAnnotations ?? [])
        .filter((all) => all.length > 0)
        .map((all) => Object.fromEntries(all.map((a) => [a.name, a.stringValue ?? a.boolValue ?? a.intValue ?? a.uintValue])));
      expect(annotations).toEqual(expected);
    }),
    { numRuns: 8, endOnFailure: true },
  );
});
