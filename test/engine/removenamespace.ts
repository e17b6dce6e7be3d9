import { spawnSync } from "node:child_process";

/** Ends what runs in a network namespace, this process apart, and removes it; one that is not there is fine. */
export function removeNamespace(name: string): void {
  const { stdout } = spawnSync("ip", ["netns", "pids", name], { encoding: "utf8" });
  for (const pid of stdout.split("\n").map(Number)) {
    if (pid === 0 || pid === process.pid) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      // It ended between the two looks.
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
    }
  }
  spawnSync("ip", ["netns", "delete", name]);
}
