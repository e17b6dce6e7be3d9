import { join } from "node:path";

/** Where this program keeps its files (DESIGN of the file layout: ARCHITECTURE.md, "Files"). */
export type Paths = {
  /** The administrator's: hosts, coordinator, keys. */
  readonly config: string;
  readonly state: string;
  readonly cache: string;
  /** The device's: /etc/exitnode, /var/lib/exitnode, /run/exitnode. */
  readonly etc: string;
  readonly var: string;
  readonly run: string;
  /** The folder that holds dist/ and templates/. */
  readonly package: string;
};

export function pathsFrom(env: Readonly<Record<string, string | undefined>>, packageRoot: string): Paths {
  const home = env.HOME ?? "/root";
  return {
    config: join(env.EXITNODE_CONFIG ?? join(env.XDG_CONFIG_HOME ?? join(home, ".config"), "exitnode")),
    state: join(env.XDG_STATE_HOME ?? join(home, ".local/state"), "exitnode"),
    cache: join(env.XDG_CACHE_HOME ?? join(home, ".cache"), "exitnode"),
    etc: env.EXITNODE_ETC ?? "/etc/exitnode",
    var: env.EXITNODE_VAR ?? "/var/lib/exitnode",
    run: env.EXITNODE_RUN ?? "/run/exitnode",
    package: packageRoot,
  };
}
