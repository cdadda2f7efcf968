/** The words of `faultline selftest`: run the kernel's KVM selftests on the emulator: page_fault_test and others; results as TAP. */
import { type Command, Option } from "commander";
import { type Done, json, wantsJson } from "../options.js";

export function addSelftest(root: Command, done: Done): void {
  root
    .command("selftest")
    .description("run the kernel's KVM selftests on the emulator: page_fault_test and others; results as TAP")
    .argument("[names...]", "tests; all of them without a name")
    .option("--kernel <era>", "run them under this era instead of v6.12")
    .option("--cpu <name>", "run them on this CPU instead of max: a profile, or BASE,+feature,-feature")
    .option("--backing <source>", "backing of page_fault_test: anonymous, shmem or anonymous_hugetlb_2mb")
    .option("--set <decision=value>", "replace one decision of the era (repeatable)", (v: string, before: string[] = []) => [...before, v])
    .option("--list", "the tests, how many cases each has, and what they are about", false)
    .addOption(new Option("--format <format>", "output format").choices(["tap", "json"]).default("tap"))
    .addOption(json())
    .addHelpText(
      "after",
      "\nExamples:\n  faultline selftest\n  faultline selftest page_fault_test --kernel v6.17 --backing shmem\n  faultline selftest page_fault_test --set writeFault=any-s1ptw | grep '^not ok'\n  faultline selftest --list",
    )
    .action(
      async (
        names: string[],
        o: { format: string; json?: boolean; kernel?: string; cpu?: string; backing?: string; set?: string[]; list: boolean },
      ) => {
        const { selftestCommand } = await import("../selftest.js");
        done(
          await selftestCommand(names, {
            format: wantsJson(o) ? "json" : "tap",
            list: o.list,
            ...(o.kernel === undefined ? {} : { kernel: o.kernel }),
            ...(o.cpu === undefined ? {} : { cpu: o.cpu }),
            ...(o.backing === undefined ? {} : { backing: o.backing }),
            ...(o.set === undefined ? {} : { set: o.set }),
          }),
        );
      },
    );
}
