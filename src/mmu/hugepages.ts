/** mm/huge_memory.c, khugepaged.c, hugetlb.c. STUB with the final signatures; the body follows. */
import type { Activity } from "../sim/agents.js";

export interface HugePagesShape {
  /** __split_huge_pmd: (mm, addr): S(PMD range, CLEAR), split if it is a huge leaf, E. The event comes whatever is mapped. */
  readonly splitHugePmd: Activity;
  /** MADV_COLLAPSE of one aligned 2 MiB block: (mm, addr) -> 0 | -errno. Takes mmap_lock for writing itself. */
  readonly collapse: Activity;
  /** MADV_POPULATE_WRITE (write=1) / _READ (0): (mm, start, end, write) -> 0 | -errno. Takes mmap_lock for reading itself. */
  readonly populate: Activity;
}
