/**
 * Reads trace.dat, versions 6 and 7 without compression: of Faultline, and of a real host. The fields come from
 * the formats that the file carries, so a host of another release is read by its own.
 */
import { byRole } from "./foreign.js";
import { agentOfTask, canonicalFields, Collected, TraceError, type MeantEvent, type ReadTrace } from "./meaning.js";

interface FileField {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
  readonly dynamic: boolean;
}
interface FileFormat {
  readonly name: string;
  readonly system: string;
  readonly fields: readonly FileField[];
}

class Reader {
  at = 0;
  constructor(
    readonly data: DataView,
    readonly little: boolean,
  ) {}
  private need(n: number): number {
    const at = this.at;
    if (n < 0 || at + n > this.data.byteLength) throw new TraceError(`the file breaks off at byte ${this.data.byteLength}`);
    this.at += n;
    return at;
  }
  u16(): number {
    return this.data.getUint16(this.need(2), this.little);
  }
  u32(): number {
    return this.data.getUint32(this.need(4), this.little);
  }
  u64(): number {
    return Number(this.data.getBigUint64(this.need(8), this.little));
  }
  bytes(n: number): Uint8Array {
    const at = this.need(n);
    return new Uint8Array(this.data.buffer, this.data.byteOffset + at, n);
  }
  text(n: number): string {
    return Buffer.from(this.bytes(n)).toString("latin1");
  }
  zero(): string {
    let end = this.at;
    while (end < this.data.byteLength && this.data.getUint8(end) !== 0) end++;
    const s = this.text(end - this.at);
    this.need(1);
    return s;
  }
}

interface CpuData {
  readonly cpu: number;
  readonly offset: number;
  readonly size: number;
}

const HEAD = 16;
const PADDING = 29;
const TIME_EXTEND = 30;
const TIME_STAMP = 31;

export const isTraceDat = (bytes: Uint8Array): boolean =>
  Buffer.from(bytes.subarray(0, 10)).equals(Buffer.from("\x17\x08\x44tracing", "latin1"));

/** @throws TraceError for what no kernel has as the size of a ring buffer's page */
function pageSize(bytes: number): number {
  if (bytes < 4096 || (bytes & (bytes - 1)) !== 0) throw new TraceError(`pages of ${bytes} bytes`);
  return bytes;
}

export function readTraceDat(bytes: Uint8Array): ReadTrace {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const probe = new Reader(view, true);
  probe.at = 10;
  const version = Number(probe.zero());
  const r = new Reader(view, probe.bytes(1)[0] === 0);
  r.at = probe.at + 1;
  const page = r.u32();
  if (version !== 6 && version !== 7) throw new TraceError(`trace.dat version ${version}; 6 and 7 can be read`);
  const file = new TraceDatFile(r, pageSize(page));
  if (version === 6) file.version6();
  else file.version7();
  const ours = [...file.formats.values()].some((f) => f.system === "faultline");
  const { events, threads } = file.events();
  return { format: `trace.dat version ${version}`, events: ours ? events : byRole(events, threads), ours };
}

interface Timed {
  readonly time: bigint;
  readonly pid: number;
  readonly event: Omit<MeantEvent, "place">;
}

class TraceDatFile {
  readonly formats = new Map<number, FileFormat>();
  private readonly tasks = new Map<number, string>();
  private cpus: CpuData[] = [];

  constructor(
    private readonly r: Reader,
    private page: number,
  ) {}

  private headerInfo(): void {
    const { r } = this;
    for (const name of ["header_page", "header_event"]) {
      if (r.zero() !== name) throw new TraceError(`no ${name} where trace.dat has it`);
      r.bytes(r.u64());
    }
  }
  private readFormats(): void {
    const { r } = this;
    for (let systems = r.u32(); systems > 0; systems--) {
      const system = r.zero();
      for (let n = r.u32(); n > 0; n--) this.format(system, r.text(r.u64()));
    }
  }
  private format(system: string, text: string): void {
    const name = /^name: (\S+)/m.exec(text)?.[1];
    const id = Number(/^ID: ([0-9]+)/m.exec(text)?.[1]);
    if (name === undefined || Number.isNaN(id)) return;
    const fields = [...text.matchAll(/^\s*field:(.*?)([A-Za-z_0-9]+)(\[[^\]]*\])?;\s*offset:([0-9]+);\s*size:([0-9]+);\s*signed:([01]);/gm)]
      .map((m) => ({
        name: m[2]!,
        offset: Number(m[4]),
        size: Number(m[5]),
        signed: m[6] === "1",
        dynamic: m[1]!.includes("__data_loc"),
      }))
      .filter((f) => !f.name.startsWith("common_"));
    this.formats.set(id, { name, system, fields });
  }
  private cmdlines(text: string): void {
    for (const m of text.matchAll(/^([0-9]+) (.*)$/gm)) this.tasks.set(Number(m[1]), m[2]!);
  }

  version6(): void {
    const { r } = this;
    this.headerInfo();
    for (let n = r.u32(); n > 0; n--) r.bytes(r.u64());
    this.readFormats();
    r.bytes(r.u32());
    r.bytes(r.u32());
    this.cmdlines(r.text(r.u64()));
    const count = r.u32();
    let kind = r.text(10);
    if (kind === "options  \0") {
      for (let id = r.u16(); id !== 0; id = r.u16()) r.bytes(r.u32());
      kind = r.text(10);
    }
    if (kind !== "flyrecord\0") throw new TraceError(`trace.dat with ${kind.trim()} data: only flyrecord is read`);
    for (let cpu = 0; cpu < count; cpu++) this.cpus.push({ cpu, offset: r.u64(), size: r.u64() });
  }

  version7(): void {
    const { r } = this;
    const compression = r.zero();
    r.zero();
    if (compression !== "none")
      throw new TraceError(`trace.dat is compressed with ${compression}: trace-cmd convert --compression none makes one that is not`);
    for (let at = r.u64(); at !== 0;) {
      r.at = at;
      const id = r.u16();
      if (id !== 0) throw new TraceError("no options section where version 7 has it");
      r.u16();
      r.u32();
      r.u64();
      at = this.options();
    }
  }
  /** @returns where the next options are, 0 if there are none */
  private options(): number {
    const { r } = this;
    for (;;) {
      const id = r.u16();
      const size = r.u32();
      const next = r.at + size;
      if (id === 0) return r.u64();
      if (id === 3) this.buffer();
      else if (id === 16 || id === 18 || id === 21) {
        r.at = r.u64() + HEAD;
        if (id === 16) this.headerInfo();
        else if (id === 18) this.readFormats();
        else this.cmdlines(r.text(r.u64()));
      }
      r.at = next;
    }
  }
  private buffer(): void {
    const { r } = this;
    r.u64();
    r.zero();
    r.zero();
    this.page = pageSize(r.u32());
    for (let n = r.u32(); n > 0; n--) this.cpus.push({ cpu: r.u32(), offset: r.u64(), size: r.u64() });
  }

  /** All CPUs merged by time; equal times in the order of CPUs. And the thread of each. */
  events(): { events: MeantEvent[]; threads: string[] } {
    const all: Timed[] = [];
    const out = new Collected();
    for (const cpu of this.cpus) for (const e of this.cpuEvents(cpu)) all.push(e);
    all.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
    for (const [i, { event }] of all.entries()) out.add({ ...event, place: i + 1 });
    return { events: out.events, threads: all.map((e) => String(e.pid)) };
  }

  private *cpuEvents(cpu: CpuData): Generator<Timed> {
    const { r } = this;
    for (let page = cpu.offset; page < cpu.offset + cpu.size; page += this.page) {
      if (!(page + HEAD <= r.data.byteLength)) throw new TraceError(`CPU ${cpu.cpu}: its pages go on after the end of the file`);
      let time = r.data.getBigUint64(page, r.little);
      const used = Number(r.data.getBigUint64(page + 8, r.little) & 0xfffffn);
      const end = page + HEAD + used;
      if (end > page + this.page || end > r.data.byteLength)
        throw new TraceError(`CPU ${cpu.cpu}: a page says that it is longer than it is`);
      for (r.at = page + HEAD; r.at < end;) {
        const head = r.u32();
        const [type, delta] = r.little ? [head & 31, head >>> 5] : [head >>> 27, head & 0x7ffffff];
        if (type === TIME_EXTEND) time += BigInt(delta) + (BigInt(r.u32()) << 27n);
        else if (type === TIME_STAMP) time = BigInt(delta) + (BigInt(r.u32()) << 27n);
        else if (type === PADDING) {
          if (delta === 0) break;
          time += BigInt(delta);
          r.bytes(r.u32() - 4);
        } else {
          time += BigInt(delta);
          const size = type === 0 ? r.u32() - 4 : type * 4;
          const at = r.at;
          r.bytes(size);
          const event = this.event(at, size, time);
          if (event !== undefined) yield { time, pid: r.data.getInt32(at + 4, r.little), event };
        }
      }
    }
  }

  private event(at: number, size: number, time: bigint): Omit<MeantEvent, "place"> | undefined {
    const { data, little } = this.r;
    // Every event has the common fields: type, flags, preempt_count, pid.
    const format = size < 8 ? undefined : this.formats.get(data.getUint16(at, little));
    if (format === undefined) return undefined;
    const pid = data.getInt32(at + 4, little);
    const fields: Record<string, string> = {};
    for (const f of format.fields) {
      if (f.offset + f.size > size) continue;
      fields[FIELD_NAMES[`${format.name}.${f.name}`] ?? f.name] = fieldText(data, little, at, f, size);
    }
    const stamp = `${time / 1_000_000_000n}.${String(time % 1_000_000_000n).padStart(9, "0")}`;
    return {
      agent: agentOfTask(this.tasks.get(pid) ?? `pid ${pid}`),
      event: format.name,
      fields: canonicalFields(format.name, fields),
      time: stamp,
    };
  }
}

/** Fields that our declarations name otherwise. */
const FIELD_NAMES: Readonly<Record<string, string>> = { "kvm_dirty_ring_exit.vcpu_id": "vcpu" };

function fieldText(data: DataView, little: boolean, at: number, f: FileField, size: number): string {
  const start = at + f.offset;
  if (f.dynamic) {
    if (f.size !== 4) throw new TraceError(`the field ${f.name} is no location of a text`);
    const loc = data.getUint32(start, little);
    const [offset, length] = [loc & 0xffff, loc >>> 16];
    if (offset + length > size) throw new TraceError(`a text of an event lies outside of it`);
    return Buffer.from(data.buffer, data.byteOffset + at + offset, length)
      .toString("latin1")
      .replace(/\0.*$/s, "");
  }
  switch (f.size) {
    case 1:
      return String(f.signed ? data.getInt8(start) : data.getUint8(start));
    case 2:
      return String(f.signed ? data.getInt16(start, little) : data.getUint16(start, little));
    case 4:
      return String(f.signed ? data.getInt32(start, little) : data.getUint32(start, little));
    case 8:
      return String(f.signed ? data.getBigInt64(start, little) : data.getBigUint64(start, little));
    default:
      return Buffer.from(data.buffer, data.byteOffset + start, f.size).toString("hex");
  }
}
