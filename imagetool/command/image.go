package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	parts := strings.Split(spec, "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return nil, nil, &usageError{fmt.Errorf("image %q: want NAME, NAME/VERSION or NAME/VERSION/ARCH", spec)}
	}
	st, anchor, err := a.loadAnchor(w)
	if err != nil {
		return nil, nil, err
	}
	cat, _, err := push.Load(ctx, st, anchor)
	if err != nil {
		return nil, nil, err
	}
	names, err := cat.Names(ctx)
	if err != nil {
		return nil, nil, err
	}
	var found []string
	for _, name := range names {
		image, ok := strings.CutPrefix(strings.TrimSuffix(name, ".json"), "images/")
		if ok && (image == spec || strings.HasPrefix(image, spec+"/")) {
			found = append(found, image)
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 0:
		return nil, nil, fmt.Errorf("%s: %w (see imagetool ls)", spec, errNoImage)
	case 1:
		img, err := cat.Image(ctx, "images/"+found[0]+".json")
		return st, img, err
	}
	return nil, nil, &usageError{fmt.Errorf("image %q is one of several: %s", spec, strings.Join(found, ", "))}
}
