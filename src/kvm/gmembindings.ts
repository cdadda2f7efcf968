/**
 * The bindings of a guest_memfd lie in an xarray (struct gmem_file, `bindings`). It keeps a range of page offsets in as few entries as
 * its nodes of 64 slots allow, and who walks a range meets a memslot once for each entry.
 */
const XA_CHUNK_SIZE = 64;
const XA_CHUNK_MASK = XA_CHUNK_SIZE - 1;

/** Indices that the next entry of [first, last] takes (lib/xarray.c xas_set_range, xas_size). */
function entrySize(first: number, last: number): number {
  let unit = 1;
  let at = first;
  let siblings = last - first;
  let offset = XA_CHUNK_MASK;
  while (at % XA_CHUNK_SIZE === 0) {
    if (siblings < XA_CHUNK_MASK || (siblings === XA_CHUNK_MASK && offset < XA_CHUNK_MASK)) break;
    unit *= XA_CHUNK_SIZE;
    if (offset === XA_CHUNK_MASK) offset = siblings % XA_CHUNK_SIZE;
    siblings = Math.floor(siblings / XA_CHUNK_SIZE);
    at /= XA_CHUNK_SIZE;
  }
  siblings = Math.min(siblings, XA_CHUNK_MASK - (at % XA_CHUNK_SIZE));
  if ((at + siblings + 1) * unit - 1 > last) siblings--;
  return (siblings + 1) * unit;
}

/**
 * How often xa_for_each_range(…, from, to - 1) meets a binding that xa_store_range(…, first, last) has stored.
 * @param last page offset, included @param to page offset, excluded
 */
export function entriesMet(first: number, last: number, from: number, to: number): number {
  let met = 0;
  for (let at = first; at <= last && at < to;) {
    const next = at + entrySize(at, last);
    if (next > from) met++;
    at = next;
  }
  return met;
}
