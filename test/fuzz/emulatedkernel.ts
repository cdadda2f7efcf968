/** A recorder without a kernel: the emulator itself, departing in one decision, stands for the real one. */
import { Replayer } from "../../src/conform/replay.js";
import { parseRecording } from "../../src/conform/recording.js";
import { scenarioText } from "../../src/fuzz/recorded/scenario.js";

export const ERA = "v6.12.117";

/** @param set decisions in which this "kernel" is not the era that its recordings name */
export function recordOnEmulator(name: string, commands: readonly string[], set: Readonly<Record<string, string>>): string {
  const head = `# kernel ${ERA}, cpu max\nscenario ${name}\n`;
  const recording = parseRecording(name, head + scenarioText(commands));
  const replayer = new Replayer(recording, { set });
  const steps = recording.steps.map((s) => [`> ${s.command.join(" ")}`, ...replayer.step(s).map((o) => `${o.kind} ${o.text}`)].join("\n"));
  return `${head}${steps.join("\n")}\n`;
}
