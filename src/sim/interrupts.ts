/**
 * Interrupts as far as another CPU waits for them (local_irq_save; kernel/smp.c smp_call_function with wait): who sends an
 * IPI to every CPU goes on when each has taken it, and a CPU with its interrupts off takes none until they are on again.
 * Preemption that is off does not hold one up.
 *
 * Such a stretch is an RCU read section, too: a grace period waits for it.
 */
import type { Agents } from "./agents.js";
import type { Rcu } from "./rcu.js";
import type { I32Pool, StateRegistry } from "./state.js";

export class Interrupts {
  /** Per agent: 1 while its CPU has interrupts off. */
  private readonly off: I32Pool;

  constructor(
    state: StateRegistry,
    private readonly agents: Agents,
    private readonly rcu: Rcu,
  ) {
    this.off = state.i32("interrupts.off", 4);
  }

  /** local_irq_save of the running agent. */
  save(): void {
    this.off.ensure(this.agents.current + 1);
    this.off.set(this.agents.current, 1);
    this.rcu.readLock();
  }

  /** local_irq_restore of the running agent. */
  restore(): void {
    this.off.set(this.agents.current, 0);
    this.rcu.readUnlock();
  }

  /** smp_call_function(…, wait): @returns false while a CPU has not taken the IPI: return BLOCKED */
  ipiTaken(): boolean {
    const { a } = this.off;
    for (let agent = 0; agent < a.length; agent++) if (a[agent] !== 0 && agent !== this.agents.current) return false;
    return true;
  }
}
