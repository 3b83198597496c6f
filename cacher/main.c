#include "cacher/cacher.h"

int main(int argc, char **argv)
{
    return service_main(&cacher_spec, argc, argv);
}
