import { spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { ADMIN_TOKEN, type Bench } from "./bench.js";

/** A person at a machine whose config names the bench's coordinator. */
export type Administrator = {
  /** `exitnode …`, as a process. */
  run(
    ...args: readonly string[]
  ): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>;
};

const main = join(dirname(fileURLToPath(import.meta.url)), "../../src/main.js");

/** `folders`: of the device that the machine is as well, by their variables. */
export async function administratorOf(
  bench: Bench,
  folders: Readonly<Record<string, string>> = {},
): Promise<Administrator> {
  const config = join(bench.folder, "administrator");
  const { tlsFingerprint, publicKey } = bench.coordinator.status();
  const urls = [`https://127.0.0.1:${bench.coordinator.port}`];
  const coordinator = { urls, adminUrls: urls, publicKey, tlsFingerprint };
  await mkdir(config, { recursive: true });
  // JSON is YAML.
  await writeFile(join(config, "config.yaml"), JSON.stringify({ coordinator }));
  await writeFile(join(config, "credentials.yaml"), JSON.stringify({ coordinator: { adminToken: ADMIN_TOKEN } }), {
    mode: 0o600,
  });
  return {
    async run(...args) {
      const child = spawn(process.execPath, [main, ...args], {
        stdio: ["ignore", "pipe", "pipe"],
        timeout: 120_000,
        env: { PATH: process.env.PATH, HOME: config, EXITNODE_CONFIG: config, ...folders },
      });
      const code = new Promise<number | null>((resolve) => child.on("close", resolve));
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
      return { code: await code, stdout, stderr };
    },
  };
}
