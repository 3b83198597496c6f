#include "gateway/gateway.h"

int main(int argc, char **argv)
{
    return service_main(&gateway_spec, argc, argv);
}
