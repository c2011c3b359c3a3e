package command

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/keys"
)

func rootFile(dir string) string { return filepath.Join(dir, keys.RootFile) }

func (a *app) keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "Look after the signing keys, and what they may sign",
		Long: `Signing keys are ed25519 keys in files of the format of OpenSSH, NAME.key in the
key folder, encrypted with a passphrase. Commands that sign take it from
--passphrase-file, from $INETBOOT_PASSPHRASE, or ask for it on the terminal.

A key that an SSH agent has ($SSH_AUTH_SOCK) needs no passphrase: run
ssh-add -c -t 1h targets.key once. ssh-keygen -p works on key files, too.

What a key may sign is a matter of the catalog's root, not of the key's name:
rotate and threshold change it, and machines follow. Where more people have to
sign the root, these commands leave a file that the others sign with key sign.

docs/trust.md says what each key can do, and what to do when it is lost or
stolen.`,
		Example: `  imagetool key list
  imagetool key rotate targets
  imagetool key rotate root --add alice.pub --add bob.pub --threshold 2
  imagetool key sign /media/stick/pending-root.json`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.keyNewCommand(), a.keyListCommand(), a.keyExportCommand(), a.keyPassphraseCommand(),
		a.keyRotateCommand(), a.keyThresholdCommand(), a.keySignCommand(), a.keyPendingCommand())
	return c
}

// keyName checks the name of a key file, given with or without suffix.
func keyName(s string) (string, error) {
	if name := strings.TrimSuffix(s, keys.Suffix); name != "" && filepath.Base(name) == name {
		return name, nil
	}
	return "", &usageError{fmt.Errorf("%q is no name of a key: it is the file's name without folder and %s", s, keys.Suffix)}
}

// fileNames returns the names of the key files.
func fileNames(r *keys.Ring) ([]string, error) {
	files, err := r.Files()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range files {
		all = append(all, strings.TrimSuffix(filepath.Base(f.Name), keys.Suffix))
	}
	return all, nil
}

// oneKey returns the name of the key file that is meant.
func oneKey(r *keys.Ring, names []string) (string, error) {
	if len(names) > 0 {
		return keyName(names[0])
	}
	all, err := fileNames(r)
	if err != nil {
		return "", err
	}
	switch len(all) {
	case 0:
		return "", fmt.Errorf("%w in %s", keys.ErrNoKey, r.Dir())
	case 1:
		return all[0], nil
	}
	return "", &usageError{fmt.Errorf("which key? Name one of %s", strings.Join(all, ", "))}
}
