/** A half-done fault is state: undone and repeated after every phase, the run is the same to the bit. */
import { describe, expect, it } from "vitest";
import { ERAS } from "../../src/eras.js";
import { FaultFixture, MIB, R_HVA } from "./faultfixture.js";

describe("a fault that is undone and repeated after every phase", () => {
  for (const { name: era } of ERAS) {
    it(`${era}: same states, same end`, () => {
      const m = new FaultFixture(era);
      m.map(R_HVA, 4 * MIB);
      m.slot(1, 0x8000_0000, 4 * MIB, R_HVA);
      m.load("ldr x4, [x0]\nstr x1, [x0]\nbr x0", 0x8000_0000, 0xd4000001);
      const agent = m.kvm.vcpuAgent(m.v);
      const { state, agents } = m.sim;
      agents.start(agent, m.kvm.run, m.v, 200, 30);
      state.startRecording();
      let phases = 0;
      for (; agents.busy(agent) && phases < 500; phases++) {
        const before = state.hash();
        const mark = state.mark();
        agents.step(agent);
        const after = state.hash();
        state.rollback(mark);
        expect(state.hash()).toBe(before);
        agents.step(agent);
        expect(state.hash()).toBe(after);
      }
      expect(agents.busy(agent)).toBe(false);
      expect(phases).toBeGreaterThan(20);
    });
  }
});
