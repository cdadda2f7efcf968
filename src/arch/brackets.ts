/**
 * The bracketed places of the access path: store and gathering buffer, cache. They are always there, each a branch
 * that nobody takes while nothing is modelled. bench/memory-types.mjs builds the same commit once more with
 * __FAULTLINE_BRACKETS__ false, where they are compiled out, to say what that branch costs.
 */
declare const __FAULTLINE_BRACKETS__: boolean | undefined;

export const BRACKETS: boolean = typeof __FAULTLINE_BRACKETS__ === "undefined" ? true : __FAULTLINE_BRACKETS__;
