// The clients of orval: plain `fetch`, and a server that the program names at its start.
export default {
  zoo: {
    input: process.env.SOURCE,
    output: {
      target: "client/index.ts",
      workspace: process.cwd(),
      client: "fetch",
      baseUrl: { runtime: "process.argv[2]" },
    },
  },
};
