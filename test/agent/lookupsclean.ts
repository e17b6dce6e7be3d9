import { clearNetwork } from "../../src/agent/network.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";

/** What is done after an agent, however it ended. */
export const clean = (folder: string): Promise<void> =>
  clearNetwork({ exec: localExec, files: localFiles, folders: { var: folder }, uid: undefined }, { interface: "exn0" });
