/**
 * trace.dat, the file of trace-cmd and KernelShark: one CPU row per agent, events of system `kvm` with the
 * kernel's own formats, ours in system `faultline`. Layout: trace-cmd's Documentation/trace-cmd/
 * trace-cmd.dat.v6.5.txt and .v7.5.txt. Each CPU's pages go to a part of their own while the run goes,
 * as `trace-cmd record` keeps them, and are joined behind the header at the end.
 */
import { RECORD_WORDS } from "../sim/events.js";
import { Bytes } from "./bytes.js";
import { eventLayouts, formatText, type Layout } from "./layout.js";
import { LONGEST_TEXT, PAGE, RingPages } from "./ringpages.js";
import { FIRST_PID, taskName, type TraceMeta, type TraceSink, type TraceSource } from "./sink.js";
import { writeAll, type TraceFile } from "./tracefile.js";
import { TraceTime } from "./tracetime.js";

export type TraceDatVersion = 6 | 7;
const CLOCK = "mono";

const HEADER_PAGE =
  "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n" +
  "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n" +
  "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n" +
  `\tfield: char data;\toffset:16;\tsize:${PAGE - 16};\tsigned:1;\n`;
const HEADER_EVENT =
  "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n\n" +
  "\tpadding     : type == 29\n\ttime_extend : type == 30\n\ttime_stamp : type == 31\n\tdata max type_len  == 28\n";

/** Options of both versions. */
const OPTION_BUFFER = 3;
const OPTION_TRACECLOCK = 4;
const OPTION_UNAME = 5;
const OPTION_CPUCOUNT = 8;
const OPTION_VERSION = 9;
/** Sections of version 7; the option of the same number says where. */
const SECTION_OPTIONS = 0;
const SECTION_BUFFER = 3;
const SECTION_HEADER_INFO = 16;
const SECTION_FTRACE_EVENTS = 17;
const SECTION_EVENT_FORMATS = 18;
const SECTION_KALLSYMS = 19;
const SECTION_PRINTK = 20;
const SECTION_CMDLINES = 21;

interface Cpu {
  readonly pages: RingPages;
  readonly part: { readonly fd: number };
}

export class TraceDat implements TraceSink {
  private readonly cpus: (Cpu | undefined)[] = [];
  private readonly layouts: readonly Layout[] = eventLayouts();
  private readonly time = new TraceTime();
  private readonly texts = new Map<number, Uint8Array>();
  readonly take: TraceSink["take"];

  /** @param kvmSystem the system of the kernel's trace points */
  constructor(
    private readonly file: TraceFile,
    private readonly source: TraceSource,
    private readonly meta: TraceMeta,
    private readonly version: TraceDatVersion = 6,
    private readonly kvmSystem = "kvm",
  ) {
    this.take = (ring, from, to) => {
      for (let at = from * RECORD_WORDS, end = to * RECORD_WORDS; at < end; at += RECORD_WORDS) {
        const agent = ring[at + 2]!;
        const cpu = this.cpus[agent] ?? this.cpu(agent);
        cpu.pages.add(this.layouts[ring[at + 3]!]!, this.time.at(agent, ring[at + 1]!), ring, at + 4);
      }
    };
  }

  private cpu(agent: number): Cpu {
    const part = this.file.part(`cpu${agent}`);
    const pages = new RingPages(
      FIRST_PID + agent,
      (bytes, length) => writeAll(part.fd, bytes, length),
      (id) => this.text(id),
    );
    return (this.cpus[agent] = { part, pages });
  }

  private text(id: number): Uint8Array {
    let bytes = this.texts.get(id);
    if (bytes === undefined) this.texts.set(id, (bytes = Buffer.from(`${this.source.bus.nameOf(id).slice(0, LONGEST_TEXT)}\0`, "latin1")));
    return bytes;
  }

  finish(): void {
    for (const c of this.cpus) c?.pages.end();
    const count = Math.max(1, this.source.agents.count);
    const sizes = Array.from({ length: count }, (_, i) => (this.cpus[i]?.pages.pages ?? 0) * PAGE);
    const head = this.version === 6 ? this.head6(sizes) : this.head7(sizes);
    this.file.write(head);
    for (const c of this.cpus) if (c !== undefined) this.file.append(c.part);
    this.file.commit();
  }

  abandon(): void {
    this.file.abandon();
  }

  private start(version: string): Bytes {
    return new Bytes().u8(0x17, 0x08, 0x44).text("tracing").text(`${version}\0`).u8(0, 8).u32(PAGE);
  }
  private headerInfo(out: Bytes): Bytes {
    out.text("header_page\0").u64(HEADER_PAGE.length).text(HEADER_PAGE);
    return out.text("header_event\0").u64(HEADER_EVENT.length).text(HEADER_EVENT);
  }
  private formats(out: Bytes): Bytes {
    const systems = [
      [this.kvmSystem, this.layouts.filter((l) => l.event.system === "kvm")],
      ["faultline", this.layouts.filter((l) => l.event.system === "faultline")],
    ] as const;
    out.u32(systems.length);
    for (const [system, layouts] of systems) {
      out.text(`${system}\0`).u32(layouts.length);
      for (const l of layouts) {
        const text = formatText(l);
        out.u64(text.length).text(text);
      }
    }
    return out;
  }
  private cmdlines(): string {
    const { agents } = this.source;
    return Array.from({ length: agents.count }, (_, a) => `${FIRST_PID + a} ${taskName(agents, a)}\n`).join("");
  }
  /** `uname -srnm` of the machine that was traced: the modelled one. */
  private uname(): string {
    return `Linux faultline ${this.meta.kernel} aarch64`;
  }
  private said(): string {
    const set = Object.entries(this.meta.set).map(([k, v]) => ` ${k}=${v}`);
    return `faultline: variant ${this.meta.variant}, CPU ${this.meta.cpu}${set.join("")}`;
  }
  private options(out: Bytes, count: number): Bytes {
    out.option(OPTION_CPUCOUNT, new Bytes().u32(count)).option(OPTION_UNAME, new Bytes().text(`${this.uname()}\0`));
    return out.option(OPTION_VERSION, new Bytes().text(`${this.said()}\0`));
  }

  private head6(sizes: readonly number[]): Uint8Array {
    const out = this.headerInfo(this.start("6")).u32(0);
    const cmdlines = this.cmdlines();
    this.formats(out).u32(0).u32(0).u64(cmdlines.length).text(cmdlines).u32(sizes.length);
    const clock = `[${CLOCK}]`;
    out.text("options  \0");
    // trace-cmd writes this option empty, and a later one reads the clock from it all the same: from memory that nobody wrote.
    this.options(out, sizes.length)
      .option(OPTION_TRACECLOCK, new Bytes().text(`${clock}\0`))
      .u16(0)
      .text("flyrecord\0");
    // The clock stands between the table of CPUs and their data.
    let offset = pageAligned(out.length + 16 * sizes.length + 8 + clock.length);
    for (const size of sizes) {
      out.u64(offset).u64(size);
      offset += size;
    }
    return out.u64(clock.length).text(clock).align(PAGE).take();
  }

  private head7(sizes: readonly number[]): Uint8Array {
    const out = this.start("7").text("none\0\0");
    const optionsAt = out.length;
    out.u64(0);
    const options = new Bytes();
    const section = (id: number, body: Bytes): void => {
      options.option(id, new Bytes().u64(out.length));
      out.u16(id).u16(0).u32(0).u64(body.length).bytes(body.take());
    };
    section(SECTION_HEADER_INFO, this.headerInfo(new Bytes()));
    section(SECTION_FTRACE_EVENTS, new Bytes().u32(0));
    section(SECTION_EVENT_FORMATS, this.formats(new Bytes()));
    section(SECTION_KALLSYMS, new Bytes().u32(0));
    section(SECTION_PRINTK, new Bytes().u32(0));
    const cmdlines = this.cmdlines();
    section(SECTION_CMDLINES, new Bytes().u64(cmdlines.length).text(cmdlines));
    this.options(options, sizes.length).option(OPTION_TRACECLOCK, new Bytes().text(`[${CLOCK}]\0`));
    // The buffer's section is last, its option stands before: the option's size is known.
    const bufferOption = (sectionAt: number, dataAt: number): Bytes => {
      const o = new Bytes().u64(sectionAt).text("\0").text(`${CLOCK}\0`).u32(PAGE).u32(sizes.length);
      let at = dataAt;
      for (const [cpu, size] of sizes.entries()) {
        o.u32(cpu).u64(at).u64(size);
        at += size;
      }
      return o;
    };
    const END = 2 + 4 + 8;
    const sectionHead = 16;
    const at = out.length;
    const sectionAt = at + sectionHead + options.length + 6 + bufferOption(0, 0).length + END;
    const flyrecord = "flyrecord\0";
    const dataAt = pageAligned(sectionAt + sectionHead + flyrecord.length);
    options.option(OPTION_BUFFER, bufferOption(sectionAt, dataAt)).option(0, new Bytes().u64(0));
    out.patch64(optionsAt, at).u16(SECTION_OPTIONS).u16(0).u32(0).u64(options.length).bytes(options.take());
    const data = sizes.reduce((a, b) => a + b, 0);
    out
      .u16(SECTION_BUFFER)
      .u16(0)
      .u32(0)
      .u64(dataAt - sectionAt - sectionHead + data)
      .text(flyrecord);
    return out.align(PAGE).take();
  }
}

const pageAligned = (n: number): number => Math.ceil(n / PAGE) * PAGE;
