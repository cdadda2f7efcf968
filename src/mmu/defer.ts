/**
 * What the plain part of the fault handler answers when it cannot finish in one go because the rest
 * calls out (notifiers, a driver) or waits: the activity `handleMmFault` goes on from there. All are
 * negative; results of a finished fault (VM_FAULT_*) are not.
 */
/** wp_page_copy: a page must be copied. */
export const DEFER_WP_COPY = -1;
/** A 2 MiB page (or the huge zero page) is replaced as a whole. */
export const DEFER_HUGE_COPY = -2;
/** The PMD must be split, then the fault is taken again. */
export const DEFER_SPLIT = -3;
/** vm_ops->huge_fault, then as DEFER_OPS_FAULT if it falls back. */
export const DEFER_OPS_HUGE = -4;
/** vm_ops->fault. */
export const DEFER_OPS_FAULT = -5;
/** hugetlb_wp: a hugetlb page must be copied. */
export const DEFER_HUGETLB_COW = -6;
/** handle_userfault: an absent page, a write-protected one, one that is only in the page cache. */
export const DEFER_UFFD_MISSING = -8;
export const DEFER_UFFD_WP = -9;
export const DEFER_UFFD_MINOR = -10;
/** Another agent holds the lock of the page table. */
export const DEFER_PTL = -11;
/** Another agent holds the lock of the file's page. */
export const DEFER_PAGE_LOCK = -12;
/** A migration entry: wait until it is gone. */
export const DEFER_MIGRATION = -7;
