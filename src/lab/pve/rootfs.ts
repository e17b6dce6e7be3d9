import { chownSync, mkdirSync, rmSync } from "node:fs";
import { shellWord } from "../../kit/shell.js";
import { asContainerRoot, ID_BASE, mustRunProgram, runProgram } from "./program.js";

/**
 * A container's root directory, owned by the shifted root. Everything is unpacked, written and read as that user in
 * its own user namespace: whatever links a template holds, they lead nowhere its own files do not.
 */
export type RootFile = { readonly path: string; readonly content: string; readonly mode: number };

export function makeRoot(root: string): void {
  mkdirSync(root, { recursive: true, mode: 0o755 });
  chownSync(root, ID_BASE, ID_BASE);
}

export function removeRoot(root: string): void {
  rmSync(root, { recursive: true, force: true });
}

const DECOMPRESSORS: Readonly<Record<string, string>> = {
  zst: "/usr/bin/zstd",
  gz: "/bin/gzip",
  xz: "/usr/bin/xz",
  bz2: "/bin/bzip2",
};

/** Unpacks an archive as Proxmox does, without its device nodes; the answer is tar's summary line. */
export async function unpack(root: string, archive: string, signal: AbortSignal): Promise<string> {
  const decompressor = DECOMPRESSORS[/\.tar\.(\w+)$/.exec(archive)?.[1] ?? ""];
  const argv = [
    ...["/usr/bin/tar", "xpf", archive, "--totals", "--numeric-owner", "--acls"],
    ...["--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"],
    ...["--exclude", "./dev/*", "--anchored", "-C", root],
    ...(decompressor === undefined ? [] : ["-I", decompressor]),
  ];
  const { stderr } = await mustRunProgram(asContainerRoot(argv), { signal, timeoutMs: 600_000 });
  return stderr.split("\n").find((line) => line.startsWith("Total bytes read")) ?? "";
}

/** Replaces files inside the root. Contents travel on stdin: some are private keys. */
export async function writeRootFiles(root: string, files: readonly RootFile[]): Promise<void> {
  const script = files.map(({ path, content, mode }) => {
    const target = shellWord(`${root}${path}`);
    const encoded = Buffer.from(content).toString("base64");
    return [
      `/usr/bin/mkdir -p ${shellWord(`${root}${path.slice(0, path.lastIndexOf("/"))}`)}`,
      `/usr/bin/rm -f ${target}`,
      `echo '${encoded}' | /usr/bin/base64 -d > ${target}`,
      `/usr/bin/chmod ${mode.toString(8)} ${target}`,
    ].join("\n");
  });
  await mustRunProgram(asContainerRoot(["/bin/sh", "-e"]), { input: `umask 077\n${script.join("\n")}\n` });
}

/** The text of a file inside the root; undefined when it is not there. */
export async function readRootFile(root: string, path: string): Promise<string | undefined> {
  const ran = await runProgram(asContainerRoot(["/usr/bin/cat", `${root}${path}`]));
  return ran.exitCode === 0 ? `${ran.stdout}\n` : undefined;
}

export async function rootHas(root: string, path: string): Promise<boolean> {
  return (await runProgram(asContainerRoot(["/usr/bin/test", "-e", `${root}${path}`]))).exitCode === 0;
}
