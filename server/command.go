package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/inetboot/inetboot/server/setup"
	"github.com/inetboot/inetboot/server/store"
)

// tokenVariable may hold the token in place of a file.
const tokenVariable = "INETBOOT_TOKEN"

type options struct {
	data, tokenFile string
	passphraseFile  string
	listen, url     string
	tlsCert, tlsKey string
	logFormat       string
	verbose         bool
	grace           time.Duration
	connections     int
	maxFile         int64
	lan             lanOptions
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve a store of images over HTTP, and take what publishers push",
		Example: `  server                                   # data in /var/lib/inetboot, port 8080
  server --data /srv/inetboot --listen :80
  server --listen 127.0.0.1:0              # a free port, which the log tells
  server --tls-cert boot.pem --tls-key boot.key --url https://boot.example.org
  server --passphrase-file /root/passphrase  # encrypts the server's own key
  server --lan eth1                        # the services of the classic LAN, too
  server token --data /srv/inetboot        # prints the publishers' token
  server completion bash >/etc/bash_completion.d/server`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), &o, stdout, stderr) },
	}
	cmd.PersistentFlags().StringVar(&o.data, "data", "", "data folder (default /var/lib/inetboot for root, else ~/.local/share/inetboot)")
	cmd.PersistentFlags().StringVar(&o.tokenFile, "token-file", "", "file with the publishers' token, made if there is none (default: the token in "+tokenVariable+", else DATA/token)")
	o.lan.shared(cmd)
	serverFlags(cmd, &o)
	cmd.AddCommand(&cobra.Command{
		Use:   "token",
		Short: "Print the token that publishers have to show",
		Example: `  server token --data /srv/inetboot
  INETBOOT_TOKEN=$(ssh boot.example.org server token) imagetool ls`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			file := o.tokenFile
			if file == "" {
				data, err := dataFolder(&o)
				if err != nil {
					return err
				}
				file = setup.TokenIn(data)
			}
			token, err := setup.ReadToken(file)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: the server makes it at its first start", err)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(stdout, token)
			return err
		},
	}, &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  server version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(stdout, version())
			return err
		},
	})
	cmd.AddCommand(newSettingsKeyCommand(&o, stdout))
	cmd.AddCommand(newLogsCommand(&o, stdout))
	cmd.AddCommand(newClientsCommand(&o, os.Stdin, stdout))
	cmd.AddCommand(newConfigureCommand(&o, stdout))
	cmd.AddCommand(newSetupCommand(&o, os.Stdin, stdout))
	cmd.AddCommand(newDoctorCommand(&o, stdout))
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	return cmd.ExecuteContext(ctx)
}

// serverFlags are the options of a server, for the command that runs it and for
// those that write what runs or protects it.
func serverFlags(cmd *cobra.Command, o *options) {
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", ":8080", "address and port; port 0 takes a free one")
	f.StringVar(&o.url, "url", "", "how publishers and clients reach this server, for the line that is printed (default made from --listen)")
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "file with the passphrase of the server's key, which encrypts it (default: "+setup.PassphraseVariable+", else the systemd credential "+setup.PassphraseCredential+", else the key is not encrypted)")
	f.StringVar(&o.tlsCert, "tls-cert", "", "certificate file, to serve HTTPS")
	f.StringVar(&o.tlsKey, "tls-key", "", "the certificate's key file")
	f.StringVar(&o.logFormat, "log-format", "", "text or json (default text on a terminal, else json)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log every block, too")
	f.DurationVar(&o.grace, "grace", 10*time.Second, "how long transfers may go on after the signal to stop")
	f.IntVar(&o.connections, "max-connections", 10000, "most connections at once; more wait")
	f.Int64Var(&o.maxFile, "max-file", store.DefaultLimits().File, "largest kernel or initrd, in bytes")
	o.lan.flags(cmd)
	complete(cmd, "dhcp", "proxy", "full", "off")
	complete(cmd, "unknown", "yes", "setup", "no")
	complete(cmd, "log-format", "text", "json")
	_ = cmd.RegisterFlagCompletionFunc("lan", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return lanCandidates(), cobra.ShellCompDirectiveNoFileComp
	})
}

// complete has shells offer the values of a flag. The only error is that the
// flag is not there, which the completion's test sees.
func complete(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func dataFolder(o *options) (string, error) {
	if o.data != "" {
		return o.data, nil
	}
	return setup.Default()
}

// version describes the build by what the Go linker knows of it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "server, built without module information"
	}
	return fmt.Sprintf("server %s, %s, %s/%s", info.Main.Version, info.GoVersion, runtime.GOOS, runtime.GOARCH)
}

func newLogger(o *options, w io.Writer) (*slog.Logger, error) {
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	format := o.logFormat
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	ho := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, ho)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, ho)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}
