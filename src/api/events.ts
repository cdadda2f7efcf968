/**
 * The types of events, from their declarations: `machine.on("kvm_guest_fault", (e) => e.ipa)` knows its
 * fields. Nothing is written twice: names, fields and kinds are read off what `declareEvent` was given.
 */
import type * as cache from "../arch/cacheevents.js";
import type * as arch from "../arch/events.js";
import type * as ordering from "../arch/orderingevents.js";
import type * as dirtylog from "../kvm/dirtylog.js";
import type * as kvmMemslots from "../kvm/memslots.js";
import type * as pgtablecache from "../kvm/pgtablecache.js";
import type * as kvm from "../kvm/trace.js";
import type * as vm from "../kvm/vm.js";
import type * as vmid from "../kvm/vmid.js";
import type * as frames from "../mmu/frames.js";
import type * as gup from "../mmu/gup.js";
import type * as hwpoison from "../mmu/hwpoison.js";
import type * as notifiers from "../mmu/notifiers.js";
import type * as pagetable from "../mmu/pagetable.js";
import type * as userfaultfd from "../mmu/uffdcontexts.js";
import type * as vmachange from "../mmu/vmachange.js";
import type * as vmas from "../mmu/vmas.js";
import type { EventDecl, EventHead, Field, FieldKind } from "../sim/events.js";
import type * as lockdep from "../sim/lockdep.js";
import type * as locks from "../sim/locks.js";
import type * as sim from "../sim/sim.js";
import type * as tlp from "../vfio/tlptrace.js";
import type * as vfio from "../vfio/trace.js";

/** The event declarations among a module's exports. */
type Declared<M> = Extract<M[keyof M], EventDecl>;

type AnyEvent =
  | Declared<typeof arch>
  | Declared<typeof cache>
  | Declared<typeof dirtylog>
  | Declared<typeof frames>
  | Declared<typeof gup>
  | Declared<typeof hwpoison>
  | Declared<typeof kvm>
  | Declared<typeof kvmMemslots>
  | Declared<typeof lockdep>
  | Declared<typeof locks>
  | Declared<typeof notifiers>
  | Declared<typeof ordering>
  | Declared<typeof pagetable>
  | Declared<typeof pgtablecache>
  | Declared<typeof sim>
  | Declared<typeof tlp>
  | Declared<typeof userfaultfd>
  | Declared<typeof vfio>
  | Declared<typeof vm>
  | Declared<typeof vmachange>
  | Declared<typeof vmas>
  | Declared<typeof vmid>;

/** A field's value as a listener gets it. */
type Value<K extends FieldKind> = K extends "dec" | "hex" ? number : K extends "bool" ? boolean : string;
type Values<F extends readonly Field[]> = { readonly [X in F[number] as X["name"]]: Value<X["kind"]> };

/** Name -> record of every event. */
export type Events = { readonly [E in AnyEvent as E["name"]]: EventHead & Values<E["fields"]> };
export type EventName = keyof Events;
