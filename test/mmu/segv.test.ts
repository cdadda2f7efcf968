/** The si_code of the VMM's own SIGSEGV (arch/arm64/mm/fault.c do_page_fault). */
import { expect, it } from "vitest";
import { ERAS, Machine } from "../../src/index.js";

const SEGV_MAPERR = 1;
const SEGV_ACCERR = 2;
const [PROT_NONE, PROT_READ] = [0, 1];

it.each(ERAS.map((e) => e.name))("%s: SEGV_MAPERR where no VMA is, SEGV_ACCERR where it does not permit the access", (kernel) => {
  const { host } = new Machine({ kernel });
  const read = host.mmap({ length: 0x1000, prot: PROT_READ, flags: 0x22 });
  const none = host.mmap({ length: 0x1000, prot: PROT_NONE, flags: 0x22 });
  expect([host.read(0x1000, 8), host.write(0x1000, 8, 1n), host.write(read, 8, 1n), host.read(none, 8)]).toMatchObject([
    { signal: { name: "SIGSEGV", code: SEGV_MAPERR, addr: 0x1000 } },
    { signal: { name: "SIGSEGV", code: SEGV_MAPERR, addr: 0x1000 } },
    { signal: { name: "SIGSEGV", code: SEGV_ACCERR, addr: read } },
    { signal: { name: "SIGSEGV", code: SEGV_ACCERR, addr: none } },
  ]);
});
