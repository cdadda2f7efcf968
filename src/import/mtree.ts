/** QEMU's `info mtree -f` to a guest script: the flat view of the address space "memory", its KVM ranges as memslots. */
import type { Diagnostics } from "../guest/diagnostics.js";
import { guestBlock, hex, Skeleton, type Import } from "./skeleton.js";
import { aroundCode } from "./slots.js";

interface Row {
  readonly line: number;
  readonly start: number;
  readonly size: number;
  readonly type: string;
  readonly name: string;
  readonly offset: number;
  readonly kvm: boolean;
  readonly text: string;
}
const ROW = /^ {2}([0-9a-f]{16})-([0-9a-f]{16}) \(prio (-?\d+), ([a-z/-]+)\): (.*)$/;
const BAR = /^([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) BAR (\d)/;
const MEMORY = ["ram", "rom", "romd", "ramd", "nv-ram"];
/** The largest modelled BAR. */
const BAR_SIZE = 0x1000000;

function rowOf(text: string, line: number): Row | undefined {
  const m = ROW.exec(text);
  if (m === null) return undefined;
  const start = Number(`0x${m[1]!}`);
  const kvm = / KVM$/.test(m[5]!);
  const rest = m[5]!.replace(/ KVM$/, "");
  const at = / @([0-9a-f]{16})$/.exec(rest);
  const size = Number(`0x${m[2]!}`) - start + 1;
  // Damaged: it ends before it begins, or lies where no IPA is.
  if (size <= 0 || start + size > 2 ** 52) return undefined;
  return {
    line,
    start,
    size,
    type: m[4]!,
    name: rest.replace(/ @[0-9a-f]{16}$/, ""),
    offset: at === null ? 0 : Number(`0x${at[1]!}`),
    kvm,
    text,
  };
}

export function importMtree(file: string, source: string, errors: Diagnostics): Import {
  const out = new Skeleton();
  const lines = source.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  const rows: Row[] = [];
  let inMemory = false;
  let views = 0;
  lines.forEach((text, i) => {
    if (/^FlatView #\d+/.test(text)) {
      views++;
      inMemory = false;
    } else if (/^ AS "memory"/.test(text)) inMemory = true;
    else if (text.trim() === "" || /^ (AS "|Root memory region: )|^\(qemu\)|^QEMU [0-9.]+ monitor|^ {2}No rendered FlatView/.test(text))
      return;
    else {
      const row = rowOf(text, i + 1);
      if (row === undefined) out.unknown(i + 1, text);
      else if (inMemory && MEMORY.includes(row.type)) rows.push(row);
      else out.leftOut++;
    }
  });
  const slots = rows.some((r) => r.kvm) ? rows.filter((r) => r.kvm) : rows;
  out.leftOut += rows.length - slots.length;
  if (slots.length === 0) {
    const hint = views === 0 ? "expected FlatView #0, as info mtree -f prints it" : 'expected a FlatView with AS "memory" and RAM in it';
    errors.add({ at: 0, line: 1, column: 1, length: (lines[0] ?? "").length }, "no memory of a VM in this file", hint);
    errors.throwIfAny();
  }
  const device = convert(slots, out);
  return out.done(`Imported from ${file.replace(/^.*\//, "")}`, lines.length, device ? ["ivshmem"] : []);
}

/** @returns whether a device is needed */
function convert(slots: readonly Row[], out: Skeleton): boolean {
  const names = [...new Set(slots.map((s) => s.name))];
  const backing = new Map<string, string>();
  let device = false;
  if (slots.some((s) => s.start + s.size > 2 ** 40)) out.add(0, "KVM_CREATE_VM(ipa_bits=48)", "memory above 1 TiB");
  names.forEach((name, n) => {
    const parts = slots.filter((s) => s.name === name);
    const size = Math.max(...parts.map((s) => s.offset + s.size));
    const hva = `mem${n}`;
    backing.set(name, hva);
    const bar = BAR.exec(name);
    const align = size >= 0x200000 ? ", align=2M" : "";
    if (parts[0]!.type === "ramd" && bar !== null && size <= BAR_SIZE) {
      if (!device) out.add(0, "let dev = vfio_open(0000:00:06.0)", "ivshmem stands for the devices of the file");
      device = true;
      out.add(parts[0]!.line, `let ${hva} = mmap(0, ${hex(size)}, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2${align})`, name);
    } else {
      const remark = parts[0]!.type === "ramd" ? `${name}: anonymous memory stands for it` : name;
      out.add(parts[0]!.line, `let ${hva} = mmap(0, ${hex(size)}, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS${align})`, remark);
    }
  });
  const touched: number[] = [];
  slots.forEach((s, id) => {
    if (s.start % 4096 !== 0 || s.size % 4096 !== 0) return out.unknown(s.line, s.text);
    const flags = s.type === "rom" || s.type === "romd" ? "flags=KVM_MEM_READONLY, " : "";
    const { parts, remark } = aroundCode({ id, gpa: s.start, size: s.size, hva: s.offset });
    for (const p of parts) {
      const hva = p.hva === 0 ? backing.get(s.name)! : `${backing.get(s.name)!} + ${hex(p.hva)}`;
      out.add(
        s.line,
        `KVM_SET_USER_MEMORY_REGION(slot=${p.id}, ${flags}guest_phys_addr=${hex(p.gpa)}, memory_size=${hex(p.size)}, userspace_addr=${hva})`,
        remark,
      );
      touched.push(p.gpa);
    }
  });
  if (touched.length > 0) out.add(0, guestBlock(touched), "one load from each memslot");
  return device;
}
