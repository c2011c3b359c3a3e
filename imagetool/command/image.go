package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
)

// errNoImage is wrapped when the catalog does not list an image.
var errNoImage = errors.New("the store has no such image")

// pick returns the store and the image that spec names: NAME, NAME/VERSION or
// NAME/VERSION/ARCH, as far as that leaves no doubt. The private key is not
// needed.
func (a *app) pick(ctx context.Context, w *where, spec string) (store.Store, *catalog.Image, error) {
	st, trust, err := a.loadTrust(w)
	if err != nil {
		return nil, nil, err
	}
	cat, _, err := push.Load(ctx, st, trust)
	if err != nil {
		return nil, nil, err
	}
	names, err := cat.Names(ctx)
	if err != nil {
		return nil, nil, err
	}
	target, err := findTarget(names, spec)
	if err != nil {
		return nil, nil, err
	}
	img, err := cat.Image(ctx, target)
	return st, img, err
}

// findTarget returns the one among targets that is the manifest of the image
// that spec names.
func findTarget(names []string, spec string) (string, error) {
	found, err := findImages(names, spec)
	if err != nil {
		return "", err
	}
	if len(found) > 1 {
		for i := range found {
			found[i] = strings.TrimSuffix(strings.TrimPrefix(found[i], "images/"), ".json")
		}
		return "", &usageError{fmt.Errorf("image %q is one of several: %s", spec, strings.Join(found, ", "))}
	}
	return found[0], nil
}
