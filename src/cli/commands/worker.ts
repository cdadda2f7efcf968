/** The words of `faultline worker`: do units of campaigns that another machine submits. */
import type { Command } from "commander";
import { type Done, duration, format, jobs, json, wantsJson } from "../options.js";

export function addWorker(root: Command, done: Done): void {
  root
    .command("worker")
    .description("do units of the campaigns that others submit with --queue, until Ctrl-C")
    .requiredOption("--queue <url>", "redis://[user:password@]host:port/, or rediss:// with TLS")
    .option("--jobs <n>", "units at once, each in a thread", jobs, 1)
    .option("--lost-after <t>", "a worker that is silent so long is taken for dead, and its units are done again", duration, 30_000)
    .addOption(format("text", "json"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  faultline worker --queue redis://localhost:6379/ --jobs 4
  faultline worker --queue 'rediss://fuzz:secret@queue.example:6380/?ca=ca.pem'
  faultline fuzz --time 1h --queue redis://localhost:6379/      on the machine that wants the report`,
    )
    .action(async (o: { queue: string; jobs: number; lostAfter: number; format: string; json?: boolean }) => {
      const { workerCommand } = await import("../worker.js");
      done(await workerCommand({ ...o, json: wantsJson(o) }));
    });
}
