package command

import (
	"context"
	"os"

	"github.com/inetboot/inetboot/imagetool/keys"
)

// passphraseVariable is the environment variable that holds the passphrase of
// signing keys, and newPassphraseVariable the one that they get.
const (
	passphraseVariable    = "INETBOOT_PASSPHRASE"
	newPassphraseVariable = "INETBOOT_NEW_PASSPHRASE"
)

// agentVariable is where an SSH agent says what its socket is.
const agentVariable = "SSH_AUTH_SOCK"

// ring returns the keys of a person: those in the folder w.keys and, through
// the agent, wherever. It is closed when the command ends.
func (a *app) ring(w *where) (*keys.Ring, error) {
	var o keys.Options
	if socket := os.Getenv(agentVariable); socket != "" {
		o.Agent = keys.NewAgent(socket)
	}
	var err error
	if o.Ask, err = a.asker(w.passphraseFile, passphraseVariable); err != nil {
		return nil, err
	}
	r := keys.OpenRing(w.keys, o)
	a.atEnd = append(a.atEnd, r.Close)
	return r, nil
}

// asker returns what knows passphrases: a file, an environment variable, or
// the person at the terminal.
func (a *app) asker(file, variable string) (keys.Asker, error) {
	switch {
	case file != "":
		f, forget, err := keys.FromFile(file)
		if err != nil {
			return nil, err
		}
		a.atEnd = append(a.atEnd, forget)
		return f, nil
	case os.Getenv(variable) != "":
		return keys.FromVariable(variable), nil
	}
	return keys.Terminal{}, nil
}

// loadKeys returns the keys and the root of the folder w.keys.
func (a *app) loadKeys(ctx context.Context, w *where) (*keys.Folder, error) {
	r, err := a.ring(w)
	if err != nil {
		return nil, err
	}
	k, err := keys.Load(ctx, r)
	if err != nil {
		return nil, err
	}
	return k, a.noteOld(r)
}

// noteOld tells of keys that lie in the format of older versions.
func (a *app) noteOld(r *keys.Ring) error {
	files, err := r.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.PKCS8 {
			a.note("%s is not encrypted: run imagetool key passphrase, which also converts it to OpenSSH's format", f.Name)
		}
	}
	return nil
}
